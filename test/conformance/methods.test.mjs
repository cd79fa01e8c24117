// The methods that the other files have no business with: the test that runs
// these files wants each method called at least once.
import test from 'node:test';
import assert from 'node:assert/strict';
import { Readable, Writable } from 'node:stream';
import { createHash } from 'node:crypto';
import { auth, queue, object, ownClient, taskcluster, rootUrl, root, slugid, freshQueue, taskDef, claim, refused } from './common.mjs';

const hour = () => taskcluster.fromNowJSON('1 hour');
const sha256 = data => createHash('sha256').update(data).digest('hex');

test('auth: what a client did', async () => {
  const clientId = `methods/${slugid()}`;
  const roleId = `methods:${slugid()}`;
  const { accessToken } = await auth.createClient(clientId, { description: '', expires: hour(), scopes: ['auth:create-role:methods:*'] });
  const own = new taskcluster.Auth({ rootUrl, credentials: { clientId, accessToken }, retries: 0 });
  await own.createRole(roleId, { description: '', scopes: [] });
  const { auditHistory: [did, ...more] } = await auth.listAuditHistory(clientId);
  assert.deepEqual(more, []);
  assert.deepEqual({ ...did, created: null }, { clientId, actionType: 'created', entityId: roleId, entityType: 'role', created: null });
});

test('queue: priorities of a task and of a group', async () => {
  const own = await ownClient('queue'); // newer than the library's own list of methods
  const q = freshQueue();
  const [one, two, three] = [slugid(), slugid(), slugid()];
  for (const id of [one, two]) await queue.createTask(id, taskDef(q, { taskGroupId: one }));
  await queue.createTask(three, taskDef(q, { priority: 'low' }));
  assert.equal((await own.changeTaskPriority(two, { newPriority: 'high' })).status.priority, 'high');
  assert.equal((await claim(q)).status.taskId, two);
  const changed = await own.changeTaskGroupPriority(one, { newPriority: 'medium' });
  assert.equal(changed.taskGroupId, one);
  assert.equal((await queue.status(one)).status.priority, 'medium');
  assert.equal((await claim(q)).status.taskId, one);
  assert.equal((await claim(q)).status.taskId, three);
});

test('queue: a provisioner and a worker type', async () => {
  const q = freshQueue();
  await queue.createTask(slugid(), taskDef(q));
  await claim(q);
  const [provisionerId, workerType] = q.split('/');
  assert.equal((await queue.getProvisioner(provisionerId)).provisionerId, provisionerId);
  const type = await queue.getWorkerType(provisionerId, workerType);
  assert.equal(type.workerType, workerType);
  await refused(() => queue.getWorkerType(provisionerId, `${workerType}x`), 404, 'ResourceNotFound');
});

test('queue: the client is led to an artifact', async () => {
  const q = freshQueue();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q));
  const { client } = await claim(q);
  await client.createArtifact(taskId, 0, 'public/there', { storageType: 'reference', url: 'https://example.com/there', contentType: 'text/plain', expires: hour() });
  for (const answer of [await queue.getArtifact(taskId, 0, 'public/there'), await queue.getLatestArtifact(taskId, 'public/there')]) {
    assert.deepEqual(answer, { storageType: 'reference', url: 'https://example.com/there' });
  }
});

test('queue: an artifact that the object service keeps', async () => {
  const q = freshQueue();
  const taskId = slugid();
  const data = Buffer.from('an object');
  await queue.createTask(taskId, taskDef(q));
  const { client } = await claim(q);
  const made = await client.createArtifact(taskId, 0, 'public/object', { storageType: 'object', contentType: 'text/plain', expires: hour() });
  assert.equal(made.storageType, 'object');
  const uploader = new taskcluster.Object({ rootUrl, credentials: made.credentials, retries: 0 });
  await taskcluster.upload({
    object: uploader, projectId: made.projectId, name: made.name, uploadId: made.uploadId, expires: made.expires ?? hour(),
    contentType: 'text/plain', contentLength: data.length, streamFactory: async () => Readable.from([data]),
  });
  await client.finishArtifact(taskId, 0, 'public/object', { uploadId: made.uploadId });
  const chunks = [];
  await taskcluster.downloadArtifact({
    taskId, runId: 0, name: 'public/object', queue,
    streamFactory: async () => new Writable({ write(c, _, done) { chunks.push(c); done(); } }),
  });
  assert.deepEqual(Buffer.concat(chunks), data);
});

test('object: monitoring', async () => {
  assert.equal((await object.ping()).alive, true);
  await object.lbheartbeat();
  await object.heartbeat();
  assert.ok((await object.version()).version);
});

test('object: in, and out again', async () => {
  for (const size of [10, 100_000]) { // inline, and by URL
    const name = `methods/${slugid()}/a b`;
    const data = Buffer.alloc(size, 'x');
    const expires = hour();
    await taskcluster.upload({
      object, projectId: 'methods', name, expires, contentType: 'text/plain', contentLength: size,
      streamFactory: async () => Readable.from([data]),
    });
    const about = await object.object(name);
    assert.deepEqual([about.projectId, about.hashes.sha256], ['methods', sha256(data)]);
    const way = await object.startDownload(name, { acceptDownloadMethods: { simple: true } });
    assert.equal(way.method, 'simple');
    await object.download(name); // the library follows no redirections
    const r = await fetch(object.buildSignedUrl(object.download, name));
    assert.equal(sha256(Buffer.from(await r.arrayBuffer())), sha256(data));
    const chunks = [];
    await taskcluster.download({ object, name, streamFactory: async () => new Writable({ write(c, _, done) { chunks.push(c); done(); } }) });
    assert.equal(sha256(Buffer.concat(chunks)), sha256(data));
  }
});
