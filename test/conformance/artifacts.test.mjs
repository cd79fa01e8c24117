import test from 'node:test';
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { queue, rootUrl, taskcluster, slugid, freshQueue, taskDef, refused, claim } from './common.mjs';

const anonymous = new taskcluster.Queue({ rootUrl, retries: 0 });

async function running() {
  const q = freshQueue();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q));
  const c = await claim(q);
  return { taskId, client: c.client, expires: c.task.deadline };
}

async function upload(client, taskId, name, body, expires, headers = {}) {
  const made = await client.createArtifact(taskId, 0, name, { storageType: 's3', expires, contentType: 'text/plain' });
  assert.equal(made.storageType, 's3');
  const r = await fetch(made.putUrl, { method: 'PUT', body, headers: { 'content-type': 'text/plain', ...headers } });
  assert.equal(r.status, 200, await r.text());
}

test('upload and download, public and private', async () => {
  const { taskId, client, expires } = await running();
  await upload(client, taskId, 'public/hello.txt', 'hello', expires);
  await upload(client, taskId, 'private/hello.txt', 'secret', expires);
  const url = anonymous.buildUrl(anonymous.getArtifact, taskId, 0, 'public/hello.txt');
  const r = await fetch(url, { headers: { origin: 'https://example.com' } }) // as from a page;
  assert.equal(r.status, 200);
  assert.equal(await r.text(), 'hello');
  assert.equal(r.headers.get('content-type'), 'text/plain');
  assert.equal(r.headers.get('access-control-allow-origin'), '*');
  const raw = await fetch(url, { redirect: 'manual' });
  assert.equal(raw.status, 303);
  assert.equal(raw.headers.get('x-taskcluster-artifact-storage-type'), 's3');
  assert.equal((await raw.json()).url, raw.headers.get('location'));
  const range = await fetch(raw.headers.get('location'), { headers: { range: 'bytes=1-2' } });
  assert.equal(range.status, 206);
  assert.equal(await range.text(), 'el');

  await refused(() => anonymous.artifact(taskId, 0, 'private/hello.txt'), 403, 'InsufficientScopes');
  const signed = queue.buildSignedUrl(queue.getArtifact, taskId, 0, 'private/hello.txt');
  assert.equal(await (await fetch(signed)).text(), 'secret');
  const latest = queue.buildSignedUrl(queue.getLatestArtifact, taskId, 'private/hello.txt');
  assert.equal(await (await fetch(latest)).text(), 'secret');
  assert.equal((await queue.artifact(taskId, 0, 'public/hello.txt')).storageType, 's3');
  assert.equal((await queue.latestArtifact(taskId, 'public/hello.txt')).storageType, 's3');
});

test('the client downloads an artifact by itself', async () => {
  const { taskId, client, expires } = await running();
  await upload(client, taskId, 'public/data.bin', 'some data', expires);
  const { Writable } = await import('node:stream');
  const chunks = [];
  await taskcluster.downloadArtifact({
    taskId, runId: 0, name: 'public/data.bin', queue,
    streamFactory: async () => new Writable({ write(c, _, done) { chunks.push(c); done(); } }),
  });
  assert.equal(Buffer.concat(chunks).toString(), 'some data');
});

test('compressed uploads are served as they were sent', async () => {
  const { taskId, client, expires } = await running();
  await upload(client, taskId, 'public/log.txt', gzipSync('line\n'.repeat(1000)), expires, { 'content-encoding': 'gzip' });
  const url = anonymous.buildUrl(anonymous.getArtifact, taskId, 0, 'public/log.txt');
  const r = await fetch(url);
  assert.equal(r.headers.get('content-encoding'), 'gzip');
  assert.equal(await r.text(), 'line\n'.repeat(1000));
});

test('uploads are refused without the right type, signature or time', async () => {
  const { taskId, client, expires } = await running();
  const { putUrl } = await client.createArtifact(taskId, 0, 'public/x', { storageType: 's3', expires, contentType: 'text/plain' });
  const put = (url, type) => fetch(url, { method: 'PUT', body: 'x', headers: { 'content-type': type } });
  assert.ok((await put(putUrl, 'text/html')).status >= 400);
  assert.ok((await put(putUrl.replace(/.$/, c => (c === 'a' ? 'b' : 'a')), 'text/plain')).status >= 400);
  assert.equal((await put(putUrl, 'text/plain')).status, 200);
});

test('reference, link and error artifacts', async () => {
  const { taskId, client, expires } = await running();
  await upload(client, taskId, 'public/target.txt', 'target', expires);
  await client.createArtifact(taskId, 0, 'public/ref', { storageType: 'reference', expires, url: 'https://example.com/1', contentType: 'text/plain' });
  await client.createArtifact(taskId, 0, 'public/ref', { storageType: 'reference', expires, url: 'https://example.com/2', contentType: 'text/plain' });
  assert.equal((await queue.artifact(taskId, 0, 'public/ref')).url, 'https://example.com/2');
  await client.createArtifact(taskId, 0, 'public/link', { storageType: 'link', expires, artifact: 'public/target.txt' });
  const r = await fetch(anonymous.buildUrl(anonymous.getLatestArtifact, taskId, 'public/link'));
  assert.equal(await r.text(), 'target');
  await client.createArtifact(taskId, 0, 'public/error', { storageType: 'error', expires, reason: 'file-missing-on-worker', message: 'gone' });
  const e = await fetch(anonymous.buildUrl(anonymous.getArtifact, taskId, 0, 'public/error'));
  assert.equal(e.status, 424);
  assert.deepEqual(await e.json(), { reason: 'file-missing-on-worker', message: 'gone' });
  assert.equal((await queue.artifact(taskId, 0, 'public/error')).reason, 'file-missing-on-worker');
  await client.createArtifact(taskId, 0, 'public/ref', { storageType: 'link', expires, artifact: 'public/target.txt' });
  assert.equal((await queue.artifactInfo(taskId, 0, 'public/ref')).contentType, 'text/plain');
  await refused(() => client.createArtifact(taskId, 0, 'public/target.txt', { storageType: 'link', expires, artifact: 'public/ref' }), 409, 'RequestConflict');
  await client.createArtifact(taskId, 0, 'public/a', { storageType: 'link', expires, artifact: 'public/b' });
  await client.createArtifact(taskId, 0, 'public/b', { storageType: 'link', expires, artifact: 'public/a' });
  await refused(() => queue.artifact(taskId, 0, 'public/a'), 400, 'InputError');
});

test('a link needs the scopes of its target too', async () => {
  const { taskId, client, expires } = await running();
  await upload(client, taskId, 'private/target', 'x', expires);
  await client.createArtifact(taskId, 0, 'public/link', { storageType: 'link', expires, artifact: 'private/target' });
  const err = await refused(() => anonymous.artifact(taskId, 0, 'public/link'), 403, 'InsufficientScopes');
  assert.match(err.message, /private\/target/);
});

test('listing and information', async () => {
  const { taskId, client, expires } = await running();
  for (const name of ['public/a', 'public/b', 'public/c', 'odd name ?#%/x']) {
    await client.createArtifact(taskId, 0, name, { storageType: 'reference', expires, url: 'https://example.com/', contentType: 'text/plain' });
  }
  const one = await queue.listArtifacts(taskId, 0, { limit: 3 });
  const two = await queue.listLatestArtifacts(taskId, { limit: 3, continuationToken: one.continuationToken });
  assert.deepEqual([...one.artifacts, ...two.artifacts].map(a => a.name).sort(), ['odd name ?#%/x', 'public/a', 'public/b', 'public/c']);
  assert.equal((await queue.latestArtifactInfo(taskId, 'odd name ?#%/x')).storageType, 'reference');
  await refused(() => queue.artifactInfo(taskId, 0, 'public/none'), 404, 'ResourceNotFound');
  await refused(() => queue.listArtifacts(taskId, 1), 404, 'ResourceNotFound');
  await refused(() => queue.artifact(taskId, 0, 'public/none'), 404, 'ResourceNotFound');
});

test('when artifacts may be created', async () => {
  const { taskId, client, expires } = await running();
  const ref = { storageType: 'reference', expires, url: 'https://example.com/', contentType: 'text/plain' };
  await refused(() => queue.createArtifact(slugid(), 0, 'public/x', ref), 400, 'InputError');
  await refused(() => queue.createArtifact(taskId, 1, 'public/x', ref), 400, 'InputError');
  await refused(() => client.createArtifact(taskId, 0, 'public/x', { ...ref, expires: taskcluster.fromNowJSON('-1 hour') }), 400, 'InputError');
  await refused(() => client.createArtifact(taskId, 0, 'public/x', { ...ref, expires: taskcluster.fromNowJSON('5 years') }), 400, 'InputError');
  await client.reportCompleted(taskId, 0);
  await refused(() => client.createArtifact(taskId, 0, 'public/x', ref), 409, 'RequestConflict');
});
