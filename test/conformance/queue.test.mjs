import test from 'node:test';
import assert from 'node:assert/strict';
import { queue, rootUrl, root, taskcluster, slugid, freshQueue, taskDef, refused, claim, worker } from './common.mjs';

const withScopes = scopes => new taskcluster.Queue({ rootUrl, credentials: root, authorizedScopes: scopes, retries: 0 });

test('createTask: defaults, status, repetition, conflict', async () => {
  const q = freshQueue();
  const taskId = slugid();
  const def = taskDef(q);
  const { status } = await queue.createTask(taskId, def);
  assert.equal(status.state, 'pending');
  assert.equal(status.runs.length, 1);
  assert.equal(status.runs[0].reasonCreated, 'scheduled');
  assert.equal(status.taskQueueId, q);
  assert.equal(status.taskGroupId, taskId);
  assert.equal(status.retriesLeft, 5);
  const task = await queue.task(taskId);
  const [provisionerId, workerType] = q.split('/');
  const expires = new Date(def.deadline);
  expires.setUTCFullYear(expires.getUTCFullYear() + 1);
  assert.deepEqual(task, {
    provisionerId, workerType, taskQueueId: q, schedulerId: '-', projectId: 'none', taskGroupId: taskId, dependencies: [], requires: 'all-completed',
    routes: [], priority: 'lowest', retries: 5, created: def.created, deadline: def.deadline, expires: expires.toJSON(), scopes: [], payload: {}, metadata: def.metadata, tags: {}, extra: {},
  });
  assert.deepEqual((await queue.createTask(taskId, def)).status, status);
  await queue.createTask(taskId, { ...def, created: def.created.replace('Z', '000Z') });
  await refused(() => queue.createTask(taskId, { ...def, taskQueueId: `${q}x` }), 409, 'RequestConflict');
  assert.deepEqual((await queue.status(taskId)).status, status);
  assert.equal((await queue.pendingTasks(q)).pendingTasks, 1);
});

test('createTask: what is refused', async () => {
  const q = freshQueue();
  const create = (more, id = slugid()) => queue.createTask(id, taskDef(q, more));
  const soon = s => taskcluster.fromNowJSON(s);
  for (const [more, code] of [
    [{ created: soon('-1 hour') }, 'InputError'],
    [{ created: soon('1 hour') }, 'InputError'],
    [{ created: soon('10 minutes'), deadline: soon('5 minutes') }, 'InputError'],
    [{ deadline: soon('6 days') }, 'InputError'],
    [{ expires: soon('1 minute') }, 'InputError'],
    [{ scopes: ['x**'] }, 'InputError'],
    [{ provisionerId: 'other', workerType: 'thing' }, 'InputError'],
    [{ taskQueueId: undefined }, 'InputError'],
    [{ priority: 'normal' }, 'InputValidationError'],
    [{ retries: 50 }, 'InputValidationError'],
    [{ metadata: { name: 'x' } }, 'InputValidationError'],
    [{ unknown: 1 }, 'InputValidationError'],
    [{ dependencies: [slugid()] }, 'InputError'],
  ]) {
    await refused(() => create(more), 400, code);
  }
  await refused(() => create({}, 'not-a-slugid'), 400, 'InvalidRequestArguments');
  const id = slugid();
  await refused(() => create({ dependencies: [slugid()] }, id), 400, 'InputError');
  await refused(() => queue.task(id), 404, 'ResourceNotFound');
  await refused(() => queue.status(id), 404, 'ResourceNotFound');
  for (const source of ['ssh://git@github.com:x/y', 'git@github.com:x/y']) {
    await create({ metadata: { ...taskDef(q).metadata, source } });
  }
});

test('createTask: scopes', async () => {
  const q = freshQueue();
  const minimal = [`queue:create-task:lowest:${q}`, 'queue:create-task:project:none', 'queue:scheduler-id:-'];
  await withScopes(minimal).createTask(slugid(), taskDef(q));
  await withScopes([`queue:create-task:high:${q}`, ...minimal.slice(1)]).createTask(slugid(), taskDef(q, { priority: 'low' }));
  await refused(() => withScopes(minimal).createTask(slugid(), taskDef(q, { priority: 'low' })), 403, 'InsufficientScopes');
  const err = await refused(() => withScopes(minimal).createTask(slugid(), taskDef(q, { scopes: ['a:b'], routes: ['c.d'] })), 403, 'InsufficientScopes');
  assert.match(err.message, /a:b/);
  assert.match(err.message, /queue:route:c\.d/);
});

test('claim, reclaim, complete: with the credentials of the task', async () => {
  const q = freshQueue();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q, { tags: { a: 'b' }, payload: { big: 12345678901234567890n.toString(), n: 1.5 } }));
  const c = await claim(q);
  assert.equal(c.status.taskId, taskId);
  assert.equal(c.status.state, 'running');
  assert.equal(c.runId, 0);
  assert.equal(c.workerId, worker.workerId);
  assert.deepEqual(c.task, await queue.task(taskId));
  assert.ok(new Date(c.takenUntil) > new Date());
  assert.equal((await queue.taskQueueCounts(q)).claimedTasks, 1);
  const re = await c.client.reclaimTask(taskId, 0);
  assert.ok(new Date(re.takenUntil) >= new Date(c.takenUntil));
  const fresh = new taskcluster.Queue({ rootUrl, credentials: re.credentials, retries: 0 });
  const { status } = await fresh.reportCompleted(taskId, 0);
  assert.equal(status.state, 'completed');
  assert.equal(status.runs[0].reasonResolved, 'completed');
  await c.client.reportCompleted(taskId, 0);
  await refused(() => c.client.reportFailed(taskId, 0), 409, 'RequestConflict');
  await refused(() => c.client.reclaimTask(taskId, 0), 409, 'RequestConflict');
  assert.equal((await queue.taskQueueCounts(q)).claimedTasks, 0);
});

test('claimWork: several at once, priority then age, quarantine of scopes', async () => {
  const q = freshQueue();
  const order = [];
  for (const priority of ['lowest', 'high', 'medium', 'high']) {
    const id = slugid();
    await queue.createTask(id, taskDef(q, { priority }));
    order.push([priority, id]);
  }
  const { tasks } = await queue.claimWork(q, { ...worker, tasks: 3 });
  assert.deepEqual(tasks.map(t => t.status.taskId), [order[1][1], order[3][1], order[2][1]]);
  await refused(() => withScopes([`queue:claim-work:${q}`]).claimWork(q, { ...worker, tasks: 1 }), 403, 'InsufficientScopes');
  await refused(() => queue.claimWork(q, { ...worker, tasks: 33 }), 400, 'InputValidationError');
});

test('claimWork: a parked worker is woken, an idle one waits 20 seconds', async () => {
  const q = freshQueue();
  const parked = queue.claimWork(q, { ...worker, tasks: 1 });
  const empty = queue.claimWork(freshQueue(), { ...worker, tasks: 1 });
  const began = Date.now();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q));
  assert.equal((await parked).tasks[0].status.taskId, taskId);
  assert.ok(Date.now() - began < 10000);
  assert.deepEqual((await empty).tasks, []);
  assert.ok(Date.now() - began > 15000);
});

test('exceptions and retries', async () => {
  const q = freshQueue();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q, { retries: 2 }));
  let c = await claim(q);
  let { status } = await c.client.reportException(taskId, 0, { reason: 'worker-shutdown' });
  assert.equal(status.state, 'pending');
  assert.equal(status.retriesLeft, 1);
  assert.equal(status.runs[0].reasonResolved, 'worker-shutdown');
  assert.equal(status.runs[1].reasonCreated, 'retry');
  await c.client.reportException(taskId, 0, { reason: 'worker-shutdown' });
  await refused(() => c.client.reportException(taskId, 0, { reason: 'internal-error' }), 409, 'RequestConflict');
  c = await claim(q);
  ({ status } = await c.client.reportException(taskId, 1, { reason: 'intermittent-task' }));
  assert.equal(status.runs[2].reasonCreated, 'task-retry');
  c = await claim(q);
  ({ status } = await c.client.reportException(taskId, 2, { reason: 'intermittent-task' }));
  assert.equal(status.state, 'exception');
  assert.equal(status.retriesLeft, 0);
  await refused(() => c.client.reportException(taskId, 2, { reason: 'nonsense' }), 400, 'InputValidationError');
});

test('claims expire, and the task is retried', { timeout: 60000 }, async () => {
  const q = freshQueue();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q, { retries: 1 }));
  await claim(q);
  const again = await claim(q, { workerGroup: 'other', workerId: 'other' });
  assert.equal(again.runId, 1);
  assert.equal(again.status.runs[0].reasonResolved, 'claim-expired');
  assert.equal(again.status.runs[1].reasonCreated, 'retry');
});

test('deadlines end tasks', { timeout: 60000 }, async () => {
  const q = freshQueue();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q, { deadline: taskcluster.fromNowJSON('2 seconds') }));
  for (;;) {
    const { status } = await queue.status(taskId);
    if (status.state === 'exception') {
      assert.equal(status.runs[0].reasonResolved, 'deadline-exceeded');
      break;
    }
    await new Promise(done => setTimeout(done, 100));
  }
  await refused(() => queue.rerunTask(taskId), 409, 'RequestConflict');
});

test('schedule, cancel, rerun', async () => {
  const q = freshQueue();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q, { dependencies: [taskId] }));
  assert.equal((await queue.status(taskId)).status.state, 'unscheduled');
  assert.equal((await queue.scheduleTask(taskId)).status.state, 'pending');
  assert.equal((await queue.scheduleTask(taskId)).status.runs.length, 1);
  const { status } = await queue.cancelTask(taskId);
  assert.equal(status.runs[0].reasonResolved, 'canceled');
  assert.equal((await queue.cancelTask(taskId)).status.state, 'exception');
  const rerun = (await queue.rerunTask(taskId)).status;
  assert.equal(rerun.runs[1].reasonCreated, 'rerun');
  assert.equal((await queue.rerunTask(taskId)).status.runs.length, 2);
  const unscheduled = slugid();
  await queue.createTask(unscheduled, taskDef(q, { dependencies: [unscheduled] }));
  const cancelled = (await queue.cancelTask(unscheduled)).status;
  assert.equal(cancelled.runs[0].reasonCreated, 'exception');
  for (const method of ['scheduleTask', 'cancelTask', 'rerunTask']) {
    await refused(() => queue[method](slugid()), 404, 'ResourceNotFound');
  }
  const byProject = withScopes(['queue:cancel-task-in-project:none']);
  await byProject.cancelTask(taskId);
});

test('dependencies release what waits for them', async () => {
  const q = freshQueue();
  const [a, b, all, any] = [slugid(), slugid(), slugid(), slugid()];
  for (const id of [a, b]) await queue.createTask(id, taskDef(q));
  await queue.createTask(all, taskDef(q, { dependencies: [a, b] }));
  await queue.createTask(any, taskDef(q, { dependencies: [a, b], requires: 'all-resolved' }));
  const first = await claim(q);
  await first.client.reportCompleted(first.status.taskId, 0);
  assert.equal((await queue.status(all)).status.state, 'unscheduled');
  const second = await claim(q);
  await second.client.reportFailed(second.status.taskId, 0);
  assert.equal((await queue.status(any)).status.state, 'pending');
  assert.equal((await queue.status(all)).status.state, 'unscheduled');
  await queue.rerunTask(second.status.taskId);
  const { tasks } = await queue.claimWork(q, { ...worker, tasks: 2 });
  const rerun = tasks.find(t => t.status.taskId === second.status.taskId);
  await queue.reportCompleted(rerun.status.taskId, 1);
  assert.equal((await queue.status(all)).status.state, 'pending');
  const dependents = await queue.listDependentTasks(a);
  assert.deepEqual(dependents.tasks.map(t => t.status.taskId).sort(), [all, any].sort());
  const done = slugid();
  await queue.createTask(done, taskDef(q, { dependencies: [first.status.taskId] }));
  assert.equal((await queue.status(done)).status.state, 'pending');
});

test('task groups: list, get, seal, cancel', async () => {
  const q = freshQueue();
  const taskGroupId = slugid();
  const ids = [slugid(), slugid(), slugid()];
  for (const id of ids) await queue.createTask(id, taskDef(q, { taskGroupId, schedulerId: 'sched' }));
  await refused(() => queue.createTask(slugid(), taskDef(q, { taskGroupId, schedulerId: 'other' })), 409, 'RequestConflict');
  const seen = [];
  let continuationToken;
  do {
    const page = await queue.listTaskGroup(taskGroupId, { limit: 1, ...(continuationToken ? { continuationToken } : {}) });
    assert.equal(page.schedulerId, 'sched');
    seen.push(...page.tasks.map(t => t.status.taskId));
    continuationToken = page.continuationToken;
  } while (continuationToken);
  assert.deepEqual(seen.sort(), [...ids].sort());
  const c = await claim(q);
  await c.client.reportCompleted(c.status.taskId, 0);
  await refused(() => queue.cancelTaskGroup(taskGroupId), 409, 'RequestConflict');
  const { sealed } = await queue.sealTaskGroup(taskGroupId);
  assert.equal((await queue.sealTaskGroup(taskGroupId)).sealed, sealed);
  assert.equal((await queue.getTaskGroup(taskGroupId)).sealed, sealed);
  await refused(() => queue.createTask(slugid(), taskDef(q, { taskGroupId, schedulerId: 'sched' })), 409, 'RequestConflict');
  const cancelled = await queue.cancelTaskGroup(taskGroupId);
  assert.equal(cancelled.cancelledCount, 2);
  assert.equal(cancelled.taskGroupSize, 3);
  assert.equal((await queue.cancelTaskGroup(taskGroupId)).cancelledCount, 0);
  await refused(() => queue.listTaskGroup(slugid()), 404, 'ResourceNotFound');
});

test('many tasks and statuses in one call', async () => {
  const q = freshQueue();
  const ids = [slugid(), slugid()];
  for (const id of ids) await queue.createTask(id, taskDef(q));
  const { tasks } = await queue.tasks({ taskIds: [...ids, slugid()] });
  assert.deepEqual(tasks.map(t => t.taskId).sort(), [...ids].sort());
  assert.deepEqual(tasks[0].task, await queue.task(tasks[0].taskId));
  const { statuses } = await queue.statuses({ taskIds: ids });
  assert.equal(statuses.length, 2);
});

test('pending and claimed lists', async () => {
  const q = freshQueue();
  const ids = [];
  for (let i = 0; i < 10; i++) {
    ids.push(slugid());
    await queue.createTask(ids[i], taskDef(q));
  }
  const one = await queue.listPendingTasks(q, { limit: 6 });
  const two = await queue.listPendingTasks(q, { limit: 6, continuationToken: one.continuationToken });
  assert.deepEqual([...one.tasks, ...two.tasks].map(t => t.taskId), ids);
  assert.equal(two.continuationToken, undefined);
  const c = await claim(q);
  const claimed = await queue.listClaimedTasks(q);
  assert.deepEqual(claimed.tasks.map(t => t.taskId), [c.status.taskId]);
  assert.equal(claimed.tasks[0].workerId, worker.workerId);
  await refused(() => queue.pendingTasks('1/1'), 400, 'InvalidRequestArguments');
  assert.equal((await queue.pendingTasks(freshQueue())).pendingTasks, 0);
});

test('claimTask by the same and by another worker', async () => {
  const q = freshQueue();
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q));
  await queue.claimTask(taskId, 0, worker);
  await queue.claimTask(taskId, 0, worker);
  await refused(() => queue.claimTask(taskId, 0, { workerGroup: 'x', workerId: 'y' }), 409, 'RequestConflict');
  await refused(() => queue.claimTask(taskId, 1, worker), 404, 'ResourceNotFound');
});

test('workers and their task queues', async () => {
  const q = freshQueue();
  const [provisionerId, workerType] = q.split('/');
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(q));
  await claim(q);
  assert.ok((await queue.listTaskQueues()).taskQueues.some(t => t.taskQueueId === q));
  assert.equal((await queue.getTaskQueue(q)).taskQueueId, q);
  const w = await queue.getWorker(provisionerId, workerType, worker.workerGroup, worker.workerId);
  assert.deepEqual(w.recentTasks, [{ taskId, runId: 0 }]);
  const quarantineUntil = taskcluster.fromNowJSON('1 hour');
  const quarantined = await queue.quarantineWorker(provisionerId, workerType, worker.workerGroup, worker.workerId, { quarantineUntil });
  assert.equal(quarantined.quarantineUntil, quarantineUntil);
  const listed = await queue.listWorkers(provisionerId, workerType, { quarantined: 'true' });
  assert.deepEqual(listed.workers[0].latestTask, { taskId, runId: 0 });
  assert.ok((await queue.listProvisioners()).provisioners.some(p => p.provisionerId === provisionerId));
  assert.ok((await queue.listWorkerTypes(provisionerId)).workerTypes.some(t => t.workerType === workerType));
  await refused(() => queue.getWorker(provisionerId, workerType, 'no', 'body'), 404, 'ResourceNotFound');
  await queue.declareWorker(provisionerId, workerType, 'new', 'one', { expires: taskcluster.fromNowJSON('1 day') });
  await refused(() => queue.declareWorker(provisionerId, workerType, 'new', 'one', {}), 400, 'InputValidationError');
});

test('retries: the client repeats a call that failed on the way', async () => {
  const { createServer, request } = await import('node:http');
  let failures = 2;
  const target = new URL(rootUrl);
  const proxy = createServer((req, res) => {
    if (failures-- > 0) {
      res.writeHead(503).end();
      return;
    }
    req.pipe(request({ host: target.hostname, port: target.port, path: req.url, method: req.method, headers: req.headers }, up => {
      res.writeHead(up.statusCode, up.headers);
      up.pipe(res);
    }));
  });
  await new Promise(done => proxy.listen(0, '127.0.0.1', done));
  const flaky = new taskcluster.Queue({ rootUrl: `http://127.0.0.1:${proxy.address().port}`, credentials: root, retries: 5, delayFactor: 1 });
  const taskId = slugid();
  await flaky.createTask(taskId, taskDef(freshQueue()));
  assert.equal((await queue.status(taskId)).status.state, 'pending');
  proxy.close();
  proxy.closeAllConnections();
});
