// Methods that Taskcluster's published API does not have, by clients that the
// official library makes of what this deployment publishes.
import test from 'node:test';
import assert from 'node:assert/strict';
import { ownClient, queue, slugid, freshQueue, taskDef, claim } from './common.mjs';

const ownAuth = await ownClient('auth');
const ownQueue = await ownClient('queue');

test('queue: many tasks at once', async () => {
  const q = freshQueue();
  const [first, second, bad] = [slugid(), slugid(), slugid()];
  const { tasks } = await ownQueue.createTasks({ tasks: [
    { taskId: second, task: taskDef(q, { dependencies: [first] }) },
    { taskId: first, task: taskDef(q) },
    { taskId: bad, task: taskDef(q, { dependencies: [slugid()] }) },
  ] });
  assert.deepEqual(tasks.map(t => [t.taskId, t.status?.state, t.error?.code]), [
    [second, 'unscheduled', undefined], [first, 'pending', undefined], [bad, undefined, 'InputError'],
  ]);
});


test('queue: why a task does not run', { skip: !ownQueue.whyPending && 'not published' }, async () => {
  const q = freshQueue();
  const [first, second] = [slugid(), slugid()];
  await queue.createTask(first, taskDef(q));
  await queue.createTask(second, taskDef(q, { dependencies: [first] }));
  const pending = await ownQueue.whyPending(first);
  assert.deepEqual([pending.taskId, pending.taskQueueId, pending.state], [first, q, 'pending']);
  assert.deepEqual(pending.position, { ahead: 0, exact: true, pending: 1 });
  const blocked = await ownQueue.whyPending(second);
  assert.deepEqual([blocked.state, blocked.blockers], ['unscheduled', [{ taskId: first, state: 'pending', unsatisfiable: false }]]);
  const { client } = await claim(q);
  await client.reportCompleted(first, 0);
  assert.equal((await ownQueue.whyPending(second)).state, 'pending');
  assert.ok((await ownQueue.whyPending(second)).summary);
});

test('auth: what a call would take', { skip: !ownAuth.explainScopes && 'not published' }, async () => {
  const call = { service: 'queue', method: 'status', params: { taskId: 'fN1SbArXTPSVFNUvaOlinQ' } };
  const mine = await ownAuth.explainScopes(call);
  assert.equal(mine.satisfied, true);
  assert.deepEqual(mine.missing, []);
  const small = ownAuth.use({ authorizedScopes: ['auth:explain-scopes'] });
  const theirs = await small.explainScopes({ ...call, method: 'cancelTaskGroup', params: { schedulerId: 's', taskGroupId: 'fN1SbArXTPSVFNUvaOlinQ' } });
  assert.equal(theirs.satisfied, false);
  assert.deepEqual(theirs.missing[0].scopes, ['queue:cancel-task-group:s/fN1SbArXTPSVFNUvaOlinQ']);
});
