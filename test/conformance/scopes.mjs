// The scopes of methods, written down by hand: they suffice, and without any one
// of them the call is refused, naming what is missing. (test/authorization does
// this for every method, from the references.) This runs against a server of its
// own (TestScopes), because it takes away the role that gives everybody access.
import test from 'node:test';
import assert from 'node:assert/strict';
import { auth, queue, slugid, taskcluster, taskDef, freshQueue } from './common.mjs';
import { raw, only } from './raw.mjs';

await auth.deleteRole('anonymous');

const references = {};
for (const service of ['auth', 'queue']) references[service] = (await raw('GET', `/references/${service}/v1/api.json`)).json.entries;

const later = taskcluster.fromNowJSON('30 minutes');
const far = taskcluster.fromNowJSON('1 hour');
const text = { description: '', expires: far };

function call(service, name, params, payload, sign) {
  const entry = references[service].find(e => e.name === name);
  assert.ok(entry, name);
  assert.equal(entry.args.length, params.length, name);
  let i = 0;
  const path = entry.route.replace(/<[^>]+>/g, () => encodeURIComponent(params[i++]));
  return raw(entry.method.toUpperCase(), `/api/${service}/v1${path}`, { sign, body: payload });
}

/** scopes are all needed; where one is an array, any one of its members. */
async function needs(service, name, params, payload, scopes, status = 200) {
  const first = scopes.map(s => [s].flat()[0]);
  for (const [i, scope] of scopes.entries()) {
    const without = first.filter((_, j) => j !== i);
    const r = await call(service, name, params, payload, only(...without));
    assert.equal(r.status, 403, `${name} without ${scope}: ${r.text}`);
    assert.equal(r.code, 'InsufficientScopes', name);
    const missing = r.message.split('```')[1].trim();
    for (const one of [scope].flat()) assert.ok(missing === one || missing.includes(JSON.stringify(one)), `${name}: ${one} is not in ${missing}`);
    const almost = await call(service, name, params, payload, only(...without, `${first[i]}x`));
    assert.equal(almost.status, 403, `${name} with ${scope}x`);
  }
  if (scopes.length > 0) assert.equal((await call(service, name, params, payload)).status, 403, `${name} without credentials`);
  const combinations = [first];
  for (const [i, scope] of scopes.entries()) {
    if (Array.isArray(scope)) for (const other of scope.slice(1)) combinations.push(first.with(i, other));
  }
  for (const exact of combinations) {
    const r = await call(service, name, params, payload, only(...exact));
    assert.equal(r.status, status, `${name} with ${exact}: ${r.text}`);
  }
}

async function created(tq = freshQueue(), more = {}) {
  const taskId = slugid();
  await queue.createTask(taskId, taskDef(tq, more));
  return { taskId, tq, groupId: more.taskGroupId ?? taskId, schedulerId: more.schedulerId ?? '-' };
}
const worker = { workerGroup: 'wg', workerId: 'wi' };
async function running(more) {
  const t = await created(freshQueue(), more);
  assert.equal((await queue.claimWork(t.tq, { ...worker, tasks: 1 })).tasks.length, 1);
  return t;
}

test('public methods', async () => {
  for (const service of ['auth', 'queue']) {
    for (const name of ['ping', 'lbheartbeat', 'version', 'heartbeat']) await needs(service, name, [], undefined, []);
  }
  await needs('auth', 'authenticateHawk', [], { method: 'get', resource: '/', host: 'localhost', port: 80 }, []);
});

test('auth: clients', async () => {
  const id = `scopes/${slugid()}`;
  await needs('auth', 'createClient', [id], { ...text, scopes: ['a:b', 'c:d'] }, [`auth:create-client:${id}`, 'a:b', 'c:d']);
  await needs('auth', 'updateClient', [id], { ...text, scopes: ['a:b', 'e:f'] }, [`auth:update-client:${id}`, 'e:f']);
  await needs('auth', 'updateClient', [id], { ...text, scopes: [] }, [`auth:update-client:${id}`]);
  await needs('auth', 'client', [id], undefined, [`auth:get-client:${id}`]);
  await needs('auth', 'listClients', [], undefined, ['auth:list-clients']);
  await needs('auth', 'resetAccessToken', [id], undefined, [`auth:reset-access-token:${id}`]);
  await needs('auth', 'disableClient', [id], undefined, [`auth:disable-client:${id}`]);
  await needs('auth', 'enableClient', [id], undefined, [`auth:enable-client:${id}`]);
  await needs('auth', 'listAuditHistory', [id], undefined, [`auth:client-audit-history:${id}`]);
  await needs('auth', 'getEntityHistory', ['client', id], undefined, ['auth:audit-history:client']);
  await needs('auth', 'deleteClient', [id], undefined, [`auth:delete-client:${id}`], 204);
});

test('auth: roles and scopes', async () => {
  const id = `scopes:${slugid()}`;
  await needs('auth', 'createRole', [id], { description: '', scopes: ['a:b', 'c:*'] }, [`auth:create-role:${id}`, 'a:b', 'c:*']);
  await needs('auth', 'updateRole', [id], { description: '', scopes: ['a:b', 'c:d', 'e:f'] }, [`auth:update-role:${id}`, 'e:f']);
  await needs('auth', 'role', [id], undefined, [`auth:get-role:${id}`]);
  for (const name of ['listRoles', 'listRoles2', 'listRoleIds']) await needs('auth', name, [], undefined, ['auth:list-roles']);
  await needs('auth', 'deleteRole', [id], undefined, [`auth:delete-role:${id}`], 204);
  await needs('auth', 'expandScopes', [], { scopes: [] }, ['auth:expand-scopes']);
  await needs('auth', 'currentScopes', [], undefined, ['auth:current-scopes']);
});

test('queue: reading', async () => {
  const { taskId, tq, groupId } = await created();
  const other = await created();
  await needs('queue', 'task', [taskId], undefined, [`queue:get-task:${taskId}`]);
  await needs('queue', 'status', [taskId], undefined, [`queue:status:${taskId}`]);
  await needs('queue', 'tasks', [], { taskIds: [taskId, other.taskId] }, [`queue:get-task:${taskId}`, `queue:get-task:${other.taskId}`]);
  await needs('queue', 'statuses', [], { taskIds: [taskId, other.taskId] }, [`queue:status:${taskId}`, `queue:status:${other.taskId}`]);
  await needs('queue', 'listDependentTasks', [taskId], undefined, [`queue:list-dependent-tasks:${taskId}`]);
  await needs('queue', 'listTaskGroup', [groupId], undefined, [`queue:list-task-group:${groupId}`]);
  await needs('queue', 'getTaskGroup', [groupId], undefined, [`queue:list-task-group:${groupId}`]);
  await needs('queue', 'pendingTasks', [tq], undefined, [`queue:pending-count:${tq}`]);
  await needs('queue', 'taskQueueCounts', [tq], undefined, [`queue:pending-count:${tq}`, `queue:claimed-count:${tq}`]);
  await needs('queue', 'listPendingTasks', [tq], undefined, [`queue:pending-list:${tq}`]);
  await needs('queue', 'listClaimedTasks', [tq], undefined, [`queue:claimed-list:${tq}`]);
});

test('C1, C8, C10: queue: creating', async () => {
  const tq = freshQueue();
  const levels = ['lowest', 'very-low', 'low', 'medium', 'high', 'very-high', 'highest'];
  const create = levels.map(p => `queue:create-task:${p}:${tq}`);
  await needs('queue', 'createTask', [slugid()], taskDef(tq), [create, 'queue:create-task:project:none', 'queue:scheduler-id:-']);
  await needs('queue', 'createTask', [slugid()], taskDef(tq, { priority: 'high', schedulerId: 's', projectId: 'p/q', scopes: ['a:b', 'c*'], routes: ['r.s'] }),
    [create.slice(4), 'queue:create-task:project:p/q', 'queue:scheduler-id:s', 'a:b', 'c*', 'queue:route:r.s']);
  const lower = await call('queue', 'createTask', [slugid()], taskDef(tq, { priority: 'high' }), only(create[3], 'queue:create-task:project:none', 'queue:scheduler-id:-'));
  assert.equal(lower.status, 403);
});

test('C33: queue: scheduling', async () => {
  for (const [name, verb] of [['scheduleTask', 'schedule-task'], ['rerunTask', 'rerun-task'], ['cancelTask', 'cancel-task']]) {
    const t = await created(freshQueue(), { schedulerId: 'sched', projectId: 'proj/x' });
    await needs('queue', name, [t.taskId], undefined, [[`queue:${verb}:sched/${t.groupId}/${t.taskId}`, `queue:${verb}-in-project:proj/x`]]);
    const legacy = [`queue:${verb}`, `assume:scheduler-id:sched/${t.groupId}`];
    assert.equal((await call('queue', name, [t.taskId], undefined, only(...legacy))).status, 200, name);
    for (const one of legacy) assert.equal((await call('queue', name, [t.taskId], undefined, only(one))).status, 403, name);
  }
  const t = await created(freshQueue(), { schedulerId: 'sched' });
  const group = `sched/${t.groupId}`;
  await needs('queue', 'changeTaskPriority', [t.taskId], { newPriority: 'high' }, [[`queue:change-task-priority:${t.taskId}`, `queue:change-task-priority-in-queue:${t.tq}`]]);
  await needs('queue', 'changeTaskGroupPriority', [t.groupId], { newPriority: 'low' }, [`queue:change-task-group-priority:${group}`]);
  await needs('queue', 'sealTaskGroup', [t.groupId], undefined, [`queue:seal-task-group:${group}`]);
  await needs('queue', 'cancelTaskGroup', [t.groupId], undefined, [`queue:cancel-task-group:${group}`]);
});

test('C18, C26: queue: workers', async () => {
  const t = await created();
  const id = 'queue:worker-id:wg/wi';
  await needs('queue', 'claimWork', [t.tq], { ...worker, tasks: 1 }, [`queue:claim-work:${t.tq}`, id]);
  const other = await created();
  await needs('queue', 'claimTask', [other.taskId, 0], worker, [`queue:claim-task:${other.tq}`, id]);
  await needs('queue', 'reclaimTask', [t.taskId, 0], undefined, [`queue:reclaim-task:${t.taskId}/0`]);
  for (const [name, payload] of [['reportCompleted'], ['reportFailed'], ['reportException', { reason: 'internal-error' }]]) {
    const { taskId } = await running();
    await needs('queue', name, [taskId, 0], payload, [`queue:resolve-task:${taskId}/0`]);
    assert.equal((await call('queue', name, [taskId, 0], payload, only('assume:worker-id:wg/wi'))).status, 403);
  }
});

test('queue: artifacts', async () => {
  const { taskId } = await running();
  const link = { storageType: 'link', artifact: 'private/b', expires: later };
  await needs('queue', 'createArtifact', [taskId, 0, 'public/a'], link, [`queue:create-artifact:${taskId}/0`]);
  await queue.createArtifact(taskId, 0, 'private/b', { storageType: 'reference', url: 'https://example.com/b', contentType: 'text/plain', expires: later });
  await needs('queue', 'finishArtifact', [taskId, 0, 'public/a'], { uploadId: slugid() }, [`queue:create-artifact:${taskId}/0`], 400);
  const both = ['queue:get-artifact:public/a', 'queue:get-artifact:private/b'];
  await needs('queue', 'getArtifact', [taskId, 0, 'public/a'], undefined, both, 303);
  await needs('queue', 'getLatestArtifact', [taskId, 'public/a'], undefined, both, 303);
  await needs('queue', 'artifact', [taskId, 0, 'public/a'], undefined, both);
  await needs('queue', 'latestArtifact', [taskId, 'public/a'], undefined, both);
  await needs('queue', 'listArtifacts', [taskId, 0], undefined, [`queue:list-artifacts:${taskId}:0`]);
  await needs('queue', 'artifactInfo', [taskId, 0, 'public/a'], undefined, [`queue:list-artifacts:${taskId}:0`]);
  await needs('queue', 'listLatestArtifacts', [taskId], undefined, [`queue:list-artifacts:${taskId}`]);
  await needs('queue', 'latestArtifactInfo', [taskId, 'public/a'], undefined, [`queue:list-artifacts:${taskId}`]);
});

test('queue: task queues and workers', async () => {
  const { tq } = await running();
  const [p, w] = tq.split('/');
  const one = `${tq}/wg/wi`;
  await needs('queue', 'listProvisioners', [], undefined, ['queue:list-provisioners']);
  await needs('queue', 'getProvisioner', [p], undefined, [`queue:get-provisioner:${p}`]);
  await needs('queue', 'listWorkerTypes', [p], undefined, [`queue:list-worker-types:${p}`]);
  await needs('queue', 'getWorkerType', [p, w], undefined, [`queue:get-worker-type:${tq}`]);
  await needs('queue', 'listTaskQueues', [], undefined, ['queue:list-task-queues']);
  await needs('queue', 'getTaskQueue', [tq], undefined, [`queue:get-task-queue:${tq}`]);
  await needs('queue', 'listWorkers', [p, w], undefined, [`queue:list-workers:${tq}`]);
  await needs('queue', 'getWorker', [p, w, 'wg', 'wi'], undefined, [`queue:get-worker:${one}`]);
  await needs('queue', 'quarantineWorker', [p, w, 'wg', 'wi'], { quarantineUntil: later }, [`queue:quarantine-worker:${one}`]);
  await needs('queue', 'declareWorker', [p, w, 'wg', 'wi'], { expires: later }, [`queue:declare-worker:${one}#expires`]);
});
