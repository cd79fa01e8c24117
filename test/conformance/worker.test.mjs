// What generic-worker does, call by call, with the credentials it has.
import test from 'node:test';
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { auth, queue, root, rootUrl, slugid, taskcluster, taskDef, freshQueue, refused } from './common.mjs';

const anonymous = new taskcluster.Queue({ rootUrl, retries: 0 });
const withCredentials = (credentials, options = {}) => new taskcluster.Queue({ rootUrl, credentials, retries: 0, ...options });

/** A worker with just the scopes that a worker pool's workers have. */
async function newWorker(taskQueueId) {
  const me = { workerGroup: 'wg', workerId: `w-${slugid().slice(0, 8).replaceAll(/[^a-zA-Z0-9]/g, 'x')}` };
  const credentials = await auth.createClient(`worker/${slugid()}`, {
    description: '', expires: taskcluster.fromNowJSON('1 hour'),
    scopes: [`queue:claim-work:${taskQueueId}`, `queue:worker-id:${me.workerGroup}/${me.workerId}`],
  });
  const client = withCredentials(credentials);
  return { ...me, client, claim: async (tasks = 1) => (await client.claimWork(taskQueueId, { ...me, tasks })).tasks };
}
async function claimed(more = {}) {
  const tq = freshQueue();
  const taskId = slugid();
  const def = taskDef(tq, more);
  await queue.createTask(taskId, def);
  const worker = await newWorker(tq);
  const [claim] = await worker.claim();
  return { tq, taskId, def, worker, claim, task: withCredentials(claim.credentials) };
}

test('C21, C44: a claim tells the worker all it needs', async () => {
  const { taskId, def, tq, worker, claim } = await claimed({ scopes: ['some:scope'], tags: { a: 'b' }, payload: { command: [['true']] } });
  assert.deepEqual(Object.keys(claim).sort(), ['credentials', 'runId', 'status', 'takenUntil', 'task', 'workerGroup', 'workerId']);
  assert.deepEqual(claim.task, await queue.task(taskId));
  assert.deepEqual({ status: claim.status }, await queue.status(taskId));
  assert.deepEqual(claim.task.payload, def.payload);
  assert.equal(claim.status.runs[0].takenUntil, claim.takenUntil);
  assert.equal(new Date(claim.takenUntil).toJSON(), claim.takenUntil);
  const { clientId, certificate } = claim.credentials;
  assert.equal(clientId, `task-client/${taskId}/0/on/wg/${worker.workerId}/until/${Date.parse(claim.takenUntil) / 1000}`);
  const { scopes, expiry, issuer } = JSON.parse(certificate);
  assert.deepEqual(scopes, [`queue:reclaim-task:${taskId}/0`, `queue:resolve-task:${taskId}/0`, `queue:create-artifact:${taskId}/0`, 'some:scope']);
  assert.equal(expiry, Date.parse(claim.takenUntil));
  assert.notEqual(issuer, clientId);
  const current = await new taskcluster.Auth({ rootUrl, credentials: claim.credentials }).currentScopes();
  assert.ok(scopes.every(s => current.scopes.includes(s)));
  assert.equal((await queue.taskQueueCounts(tq)).claimedTasks, 1);
});

test('C56-C57: log streamed, uploaded, linked, task completed', async () => {
  const { taskId, tq, task, claim } = await claimed();
  const text = 'text/plain; charset=utf-8';
  const live = n => ({ storageType: 'reference', url: `http://127.0.0.1:1/log/${n}`, contentType: text, expires: taskcluster.fromNowJSON('15 minutes') });
  const expires = claim.task.expires;
  await task.createArtifact(taskId, 0, 'public/logs/live.log', live(1));
  await task.createArtifact(taskId, 0, 'public/logs/live.log', live(2));
  const url = anonymous.buildUrl(anonymous.getLatestArtifact, taskId, 'public/logs/live.log');
  const get = () => fetch(url, { redirect: 'manual' });
  assert.equal((await get()).headers.get('location'), 'http://127.0.0.1:1/log/2');
  await refused(() => task.createArtifact(taskId, 0, 'public/logs/live.log', { ...live(2), contentType: 'text/html' }), 409, 'RequestConflict');
  await refused(() => task.createArtifact(taskId, 0, 'public/logs/live.log', { ...live(2), expires: taskcluster.fromNowJSON('1 minute') }), 409, 'RequestConflict');

  const log = 'line\n'.repeat(1000);
  const body = gzipSync(log);
  const backing = { storageType: 's3', contentType: text, contentLength: body.length, expires };
  const made = await task.createArtifact(taskId, 0, 'public/logs/live_backing.log', backing);
  assert.equal(made.contentType, text);
  assert.ok(Date.parse(made.expires) > Date.now() + 40 * 60e3);
  // As Go sends it: no other headers than these.
  const put = await fetch(made.putUrl, { method: 'PUT', body, headers: { 'content-type': text, 'content-encoding': 'gzip' } });
  assert.equal(put.status, 200, await put.text());
  await task.createArtifact(taskId, 0, 'public/logs/live_backing.log', backing); // the first answer was lost

  const link = { storageType: 'link', artifact: 'public/logs/live_backing.log', contentType: text, expires };
  await task.createArtifact(taskId, 0, 'public/logs/live.log', link);
  await task.createArtifact(taskId, 0, 'public/logs/live.log', link);
  await refused(() => task.createArtifact(taskId, 0, 'public/logs/live.log', { ...link, artifact: 'other' }), 409, 'RequestConflict');
  await refused(() => task.createArtifact(taskId, 0, 'public/logs/live.log', live(3)), 409, 'RequestConflict');

  const { status } = await task.reportCompleted(taskId, 0);
  assert.equal(status.state, 'completed');
  assert.equal((await task.reportCompleted(taskId, 0)).status.state, 'completed');
  await refused(() => task.createArtifact(taskId, 0, 'late', link), 409, 'RequestConflict');
  await refused(() => task.reclaimTask(taskId, 0), 409, 'RequestConflict');
  assert.equal((await queue.taskQueueCounts(tq)).claimedTasks, 0);

  // The shell client reads the log like this, slashes as they are.
  const answer = await fetch(`${rootUrl}/api/queue/v1/task/${taskId}/artifacts/public/logs/live.log`);
  assert.equal(answer.headers.get('content-type'), text);
  assert.equal(answer.headers.get('access-control-allow-origin'), '*');
  assert.equal(await answer.text(), log);
  const redirect = await get();
  assert.equal(redirect.status, 303);
  assert.deepEqual(await redirect.json(), { storageType: 's3', url: redirect.headers.get('location') });
  assert.equal((await fetch(redirect.headers.get('location'), { method: 'HEAD' })).status, 200);
  const listed = (await queue.listArtifacts(taskId, 0)).artifacts;
  assert.deepEqual(listed, [
    { storageType: 'link', name: 'public/logs/live.log', contentType: text, expires },
    { storageType: 's3', name: 'public/logs/live_backing.log', contentType: text, contentLength: body.length, expires },
  ]);
});

test('C21: reclaiming gives new credentials; the old ones of the same run still count', async () => {
  const { taskId, claim, task, worker } = await claimed();
  const again = await task.reclaimTask(taskId, 0);
  assert.ok(again.takenUntil >= claim.takenUntil);
  assert.equal(again.status.runs[0].takenUntil, again.takenUntil);
  assert.notEqual(again.credentials.accessToken, claim.credentials.accessToken);
  assert.deepEqual(Object.keys(again).sort(), ['credentials', 'runId', 'status', 'takenUntil', 'workerGroup', 'workerId']);
  const swapped = withCredentials(again.credentials);
  await swapped.reclaimTask(taskId, 0);
  const artifact = { storageType: 'error', reason: 'file-missing-on-worker', message: 'no such file', expires: claim.task.expires };
  await swapped.createArtifact(taskId, 0, 'public/missing', artifact);
  await refused(() => worker.client.reclaimTask(taskId, 0), 403, 'InsufficientScopes');
  assert.equal((await task.reportFailed(taskId, 0)).status.state, 'failed');
  assert.equal((await swapped.reportFailed(taskId, 0)).status.state, 'failed');
  await refused(() => swapped.reportCompleted(taskId, 0), 409, 'RequestConflict');
  const error = await fetch(anonymous.buildUrl(anonymous.getArtifact, taskId, 0, 'public/missing'));
  assert.equal(error.status, 424);
  assert.equal(error.headers.get('x-taskcluster-artifact-storage-type'), 'error');
  assert.deepEqual(await error.json(), { reason: 'file-missing-on-worker', message: 'no such file' });
});

test('C23-C25, F12: worker-shutdown: the next run is another one', async () => {
  const { taskId, task, worker, claim } = await claimed({ retries: 1 });
  const shutdown = () => task.reportException(taskId, 0, { reason: 'worker-shutdown' });
  const first = (await shutdown()).status;
  assert.equal(first.state, 'pending');
  assert.equal(first.retriesLeft, 0);
  assert.deepEqual(first.runs.map(r => [r.state, r.reasonCreated, r.reasonResolved]),
    [['exception', 'scheduled', 'worker-shutdown'], ['pending', 'retry', undefined]]);
  assert.deepEqual((await shutdown()).status, first);
  await refused(() => task.reportException(taskId, 0, { reason: 'internal-error' }), 409, 'RequestConflict');
  // The worker may still upload its log.
  await task.createArtifact(taskId, 0, 'public/logs/live.log', { storageType: 'link', artifact: 'x', expires: claim.task.expires });

  const [second] = await worker.claim();
  assert.equal(second.runId, 1);
  await refused(() => task.reportCompleted(taskId, 1), 403, 'InsufficientScopes');
  await refused(() => task.reclaimTask(taskId, 0), 409, 'RequestConflict');
  await refused(() => task.reportCompleted(taskId, 0), 409, 'RequestConflict');
  assert.equal((await shutdown()).status.state, 'running');
  const last = withCredentials(second.credentials);
  const { status } = await last.reportException(taskId, 1, { reason: 'intermittent-task' });
  assert.equal(status.state, 'exception');
  assert.equal(status.runs.length, 2);
  await last.createArtifact(taskId, 1, 'public/late', { storageType: 'link', artifact: 'x', expires: claim.task.expires });

  await queue.rerunTask(taskId);
  await refused(shutdown, 409, 'RequestConflict'); // two later runs
  assert.equal((await last.reportException(taskId, 1, { reason: 'intermittent-task' })).status.state, 'pending');
});

test('a claim that ran out: its worker is told so', { timeout: 60000 }, async () => {
  const { taskId, task, worker, claim } = await claimed({ retries: 1 });
  const [second] = await worker.claim(); // parked until the claim resolver has seen to it
  assert.equal(second.runId, 1);
  assert.ok(Date.now() >= Date.parse(claim.takenUntil));
  assert.equal(second.status.runs[0].reasonResolved, 'claim-expired');
  await refused(() => task.reclaimTask(taskId, 0), 409, 'RequestConflict');
  await refused(() => task.reportCompleted(taskId, 0), 409, 'RequestConflict');
  await refused(() => task.reportException(taskId, 0, { reason: 'worker-shutdown' }), 409, 'RequestConflict');
  await withCredentials(second.credentials).reportCompleted(taskId, 1);
});

test('a task that is cancelled while it runs', async () => {
  const { taskId, task } = await claimed();
  assert.equal((await queue.cancelTask(taskId)).status.runs[0].reasonResolved, 'canceled');
  await refused(() => task.reclaimTask(taskId, 0), 409, 'RequestConflict');
  await refused(() => task.reportFailed(taskId, 0), 409, 'RequestConflict');
});

test('a task has the scopes of its definition, no more', async () => {
  const { claim } = await claimed({ scopes: ['auth:current-scopes', 'queue:create-task:lowest:some/queue'] });
  const inside = withCredentials(claim.credentials);
  await refused(() => inside.createTask(slugid(), taskDef('some/queue')), 403, 'InsufficientScopes');
  const proxied = withCredentials(claim.credentials, { authorizedScopes: ['auth:current-scopes'] });
  await refused(() => proxied.reclaimTask(claim.status.taskId, 0), 403, 'InsufficientScopes');
  await refused(() => withCredentials({ ...claim.credentials, accessToken: root.accessToken }).reclaimTask(claim.status.taskId, 0), 401, 'AuthenticationFailed');
});

test('C45-C49: workers leave traces', async () => {
  const tq = freshQueue();
  const [p, w] = tq.split('/');
  const worker = await newWorker(tq);
  const ids = [];
  for (let i = 0; i < 21; i++) {
    const id = slugid();
    await queue.createTask(id, taskDef(tq));
    await worker.claim();
    if (i < 20) await queue.cancelTask(id); // or its claim would expire, and it come back
    ids.push(id);
  }
  const recent = ids.slice(1).map(taskId => ({ taskId, runId: 0 }));
  const found = await queue.getWorker(p, w, worker.workerGroup, worker.workerId);
  assert.deepEqual(found.recentTasks, recent);
  assert.equal(found.taskQueueId, tq);
  const [listed] = (await queue.listWorkers(p, w)).workers;
  assert.deepEqual(listed.latestTask, recent.at(-1));
  assert.equal(listed.quarantineUntil, undefined);
  const quarantineUntil = taskcluster.fromNowJSON('1 hour');
  const put = await queue.quarantineWorker(p, w, worker.workerGroup, worker.workerId, { quarantineUntil, quarantineInfo: 'why' });
  assert.equal(put.quarantineUntil, quarantineUntil);
  assert.equal((await queue.listWorkers(p, w, { quarantined: 'true' })).workers.length, 1);
  assert.equal((await queue.listWorkers(p, w, { quarantined: 'false' })).workers.length, 0);
  await refused(() => queue.listWorkers(p, w, { quarantined: 'maybe' }), 400, 'InvalidRequestArguments');
  // It gets no work, but may end what it has.
  const id = slugid();
  await queue.createTask(id, taskDef(tq));
  await refused(() => queue.claimTask(id, 0, { workerGroup: worker.workerGroup, workerId: worker.workerId }), 409, 'RequestConflict');
  await queue.reportCompleted(ids.at(-1), 0);
  const lifted = await queue.quarantineWorker(p, w, worker.workerGroup, worker.workerId, { quarantineUntil: taskcluster.fromNowJSON('-1 hour') });
  assert.ok(Date.parse(lifted.quarantineUntil) < Date.now());
  assert.equal((await worker.claim())[0].status.taskId, id);
  const expires = taskcluster.fromNowJSON('2 days');
  assert.equal((await queue.declareWorker(p, w, worker.workerGroup, worker.workerId, { expires })).expires, expires);
  const kept = await queue.declareWorker(p, w, worker.workerGroup, worker.workerId, { expires: taskcluster.fromNowJSON('1 hour') });
  assert.equal(kept.expires, expires);
  assert.equal(kept.recentTasks.length, 20);
  for (const bad of [{}, { expires, quarantineUntil }]) await refused(() => queue.declareWorker(p, w, 'wg', 'x', bad), 400, 'InputValidationError');
});
