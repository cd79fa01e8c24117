// Which refusal comes first, and in what words, when several would fit.
import test from 'node:test';
import assert from 'node:assert/strict';
import { queue, root, slugid, taskcluster, taskDef, freshQueue, worker, claim } from './common.mjs';
import { raw, only } from './raw.mjs';

const Q = '/api/queue/v1';
const nobody = only();
const from = text => taskcluster.fromNowJSON(text);
const put = (taskId, body, sign = root) => raw('PUT', `${Q}/task/${taskId}`, { sign, body });
const post = (path, body, sign = root) => raw('POST', Q + path, { sign, body });
const get = (path, sign = root) => raw('GET', Q + path, { sign });

function is(r, status, code, message) {
  assert.equal(r.status, status, r.text);
  assert.equal(r.code, code, r.text);
  if (message instanceof RegExp) assert.match(r.message, message);
  else if (message !== undefined) assert.equal(r.message, message);
}
async function created(more = {}) {
  const taskId = slugid();
  const tq = freshQueue();
  await queue.createTask(taskId, taskDef(tq, more));
  return [taskId, tq];
}

test('C3, C4, C9: createTask: the order of its checks', async () => {
  const create = (more, sign, taskId = slugid()) => put(taskId, { ...taskDef(freshQueue()), ...more }, sign);
  is(await create({ more: 1 }, nobody, 'nope'), 400, 'InvalidRequestArguments');
  is(await create({ more: 1, provisionerId: 'a', workerType: 'b' }, nobody), 400, 'InputValidationError', /data must NOT have additional properties: "more"/);
  is(await create({ provisionerId: 'a', workerType: 'b', taskQueueId: 'a/c' }, nobody), 400, 'InputError', 'taskQueueId must match "provisionerId/workerType"');
  is(await create({ provisionerId: 'a', taskQueueId: undefined }, nobody), 400, 'InputError');
  is(await create({ created: from('-1 hour') }, nobody), 403, 'InsufficientScopes');
  is(await create({ created: from('-1 hour'), scopes: ['a**'] }), 400, 'InputError', '`created` cannot be in the past (max 15min drift)');
  is(await create({ created: from('16 minutes'), deadline: from('1 hour') }), 400, 'InputError', '`created` cannot be in the future (max 15min drift)');
  is(await create({ created: from('10 minutes'), deadline: from('5 minutes') }), 400, 'InputError', '`deadline` cannot be later than `created`');
  is(await create({ created: from('-10 minutes'), deadline: from('-5 minutes') }), 400, 'InputError', '`deadline` cannot be in the past');
  is(await create({ deadline: from('6 days') }), 400, 'InputError', '`deadline` cannot be more than 5 days into the future');
  is(await create({ expires: from('10 minutes') }), 400, 'InputError', '`expires` cannot be before `deadline`');
  is(await create({ scopes: ['a**'] }, nobody), 403, 'InsufficientScopes');

  const [groupId, tq] = await created();
  await queue.sealTaskGroup(groupId);
  const join = more => create({ taskQueueId: tq, taskGroupId: groupId, ...more });
  is(await join({ scopes: ['a**'], schedulerId: 'other' }), 400, 'InputError', 'scopes must not end with `**`');
  is(await join({ schedulerId: 'other', dependencies: [slugid()] }), 409, 'RequestConflict',
    `Task group \`${groupId}\` contains tasks with a schedulerId other\nthan \`other\`. All tasks in the same task-group must have\nthe same schedulerId.`);
  is(await join({ dependencies: [slugid()] }), 409, 'RequestConflict', `Task group \`${groupId}\` is sealed and does not accept new tasks.`);
  is(await create({ dependencies: [slugid()] }), 400, 'InputError');
});

test('C2, C8: createTask: what the schema lets pass and what not', async () => {
  const create = more => put(slugid(), { ...taskDef(freshQueue()), ...more });
  const metadata = taskDef('a/b').metadata;
  for (const source of ['ssh://git@github.com:x/y', 'git@github.com:x/y', 'http://x']) assert.equal((await create({ metadata: { ...metadata, source } })).status, 200, source);
  is(await create({ metadata: { ...metadata, source: 'ftp://x/y' } }), 400, 'InputValidationError');
  for (const good of [
    { scopes: ['', 'a', 'a'] }, { projectId: 'a/b.c_d-' }, { retries: 0 }, { tags: { 'a b': '\u{1F600}'.repeat(4096) } }, { deadline: from('5 days 10 minutes') },
    { routes: Array.from({ length: 64 }, (_, i) => `r${i}`.padEnd(249, 'x')) }, { provisionerId: 'ignored' }, { created: from('14 minutes'), deadline: from('1 hour') },
  ]) assert.equal((await create(good)).status, 200, JSON.stringify(good).slice(0, 80));
  for (const bad of [
    { priority: 'normal' }, { retries: 50 }, { retries: 4.5 }, { retries: '5' }, { scopes: ['é'] }, { schedulerId: '' }, { schedulerId: 'a.b' }, { schedulerId: 'x'.repeat(39) },
    { provisionerId: 'a', workerType: 'B', taskQueueId: undefined }, { tags: { a: 1 } }, { tags: { a: 'x'.repeat(4097) } }, { payload: [] }, { payload: undefined }, { extra: null },
    { routes: ['a', 'a'] }, { routes: [''] }, { routes: ['a'.repeat(250)] }, { routes: Array.from({ length: 65 }, (_, i) => `r${i}`) }, { dependencies: ['x'] }, { requires: 'all' },
    { taskGroupId: 'x' }, { taskQueueId: '1/1' }, { payload: { a: 'x\0' } }, { payload: { '\0': 1 } }, { metadata: { ...metadata, more: '' } }, { metadata: { ...metadata, name: 'x'.repeat(256) } },
  ]) is(await create(bad), 400, 'InputValidationError');
});

test('routes beyond what a routing key holds are refused by name', async () => {
  const route = 'é'.repeat(125); // 125 characters, 250 bytes; the schema counts characters
  is(await put(slugid(), taskDef(freshQueue(), { routes: ['short', route] })), 400, 'InputError', /^task\.routes\[1\] /);
  assert.equal((await put(slugid(), taskDef(freshQueue(), { routes: [`${'é'.repeat(124)}x`] }))).status, 200);
});

test('C5, F18, F25: createTask again, in other words', async () => {
  const taskId = slugid();
  const def = taskDef(freshQueue(), { routes: ['a.b'], payload: { a: { b: 1, c: [2] } } });
  assert.equal((await put(taskId, def)).status, 200);
  const defaults = { retries: 5, priority: 'lowest', taskGroupId: taskId, dependencies: [], requires: 'all-completed', tags: {}, extra: {}, schedulerId: '-', projectId: 'none', scopes: [] };
  for (const same of [
    {}, { payload: { a: { c: [2], b: 1 } } }, defaults, { created: def.created.replace('Z', '999Z') }, { deadline: def.deadline.replace('Z', '+00:00') },
    { deadline: def.deadline.replace('Z', '+0000') }, { deadline: def.deadline.replace('Z', '') }, { deadline: def.deadline.replace('T', ' ').toLowerCase() },
  ]) assert.equal((await put(taskId, { ...def, ...same })).status, 200, JSON.stringify(same));
  for (const different of [{ taskQueueId: freshQueue() }, { routes: ['a.c'] }, { payload: {} }, { retries: 4 }, { schedulerId: 'other' }, { scopes: ['a'] }]) {
    is(await put(taskId, { ...def, ...different }), 409, 'RequestConflict');
  }
  for (const deadline of [def.deadline.replace('Z', '+00'), def.deadline.slice(0, 16) + 'Z', '2026-02-30T00:00:00Z', '2026-12-01T24:00:00Z', '2026-12-31T23:59:60Z', '2026-12-01', '', 0, null]) {
    is(await put(taskId, { ...def, deadline }), 400, 'InputValidationError');
  }
});

test('F18: numbers in a payload stay as they were written', async () => {
  const taskId = slugid();
  const numbers = '{"big":12345678901234567890,"float":1.0,"exponent":1e3,"long":0.1000000000000000055,"negative":-0}';
  const body = JSON.stringify(taskDef(freshQueue(), { payload: 'HERE' })).replace('"HERE"', numbers);
  const send = text => raw('PUT', `${Q}/task/${taskId}`, { sign: root, body: text, headers: { 'content-type': 'application/json' } });
  assert.equal((await send(body)).status, 200);
  assert.equal((await send(body)).status, 200);
  assert.ok((await get(`/task/${taskId}`)).text.replace(/\s/g, '').includes(numbers));
  assert.equal((await send(body.replace('12345678901234567890', '5'))).status, 409);
});

test('C30, C60: what is not there', async () => {
  const id = slugid();
  const unknown = `\`${id}\` does not correspond to a task that exists.\nAre you sure this task exists?`;
  is(await get(`/task/${id}`), 404, 'ResourceNotFound', `\`${id}\` does not correspond to a task that exists.\nAre you sure this task has already been submitted?`);
  for (const path of [`/task/${id}/status`, `/task/${id}/dependents`]) is(await get(path), 404, 'ResourceNotFound', unknown);
  // These look for the task before they look at the caller.
  for (const verb of ['schedule', 'rerun', 'cancel']) for (const sign of [root, nobody]) is(await post(`/task/${id}/${verb}`, undefined, sign), 404, 'ResourceNotFound', unknown);
  for (const sign of [root, nobody]) {
    is(await post(`/task/${id}/priority`, { newPriority: 'low' }, sign), 404, 'ResourceNotFound', unknown);
    is(await post(`/task/${id}/runs/0/claim`, worker, sign), 404, 'ResourceNotFound', unknown);
    for (const verb of ['seal', 'cancel']) is(await post(`/task-group/${id}/${verb}`, undefined, sign), 404, 'ResourceNotFound', `No task-group with taskGroupId: \`${id}\``);
  }
  // These the other way round.
  for (const verb of ['reclaim', 'completed', 'failed']) {
    is(await post(`/task/${id}/runs/0/${verb}`), 404, 'ResourceNotFound', unknown);
    is(await post(`/task/${id}/runs/0/${verb}`, undefined, nobody), 403, 'InsufficientScopes');
  }
  const link = { storageType: 'link', artifact: 'y', expires: from('30 minutes') };
  is(await post(`/task/${id}/runs/0/artifacts/x`, link, nobody), 403, 'InsufficientScopes');
  is(await post(`/task/${id}/runs/0/artifacts/x`, link), 400, 'InputError', 'Task not found');
  for (const path of ['/runs/0/artifacts/x', '/artifacts/x', '/runs/0/artifact-content/x', '/artifact-content/x', '/runs/0/artifact-info/x', '/artifact-info/x', '/runs/0/artifacts', '/artifacts']) {
    is(await get(`/task/${id}${path}`), 404, 'ResourceNotFound');
  }
  is(await get(`/task/${id}/artifacts/x`, nobody), 403, 'InsufficientScopes');
  is(await get(`/task/${id}/artifact-content/x`, nobody), 404, 'ResourceNotFound');
  is(await get(`/task/${id}/artifacts/`), 400, 'InvalidRequestArguments');

  const [taskId] = await created({ dependencies: [] });
  is(await post(`/task/${taskId}/runs/1/reclaim`), 404, 'ResourceNotFound', `Run 1 not found on task \`${taskId}\`.`);
  is(await post(`/task/${taskId}/runs/1/artifacts/x`, link), 400, 'InputError', 'Run not found');
  is(await post(`/task/${taskId}/runs/0/artifacts/x`, link), 400, 'InputError', 'Run was not claimed by a worker and so no artifacts can exist');
  is(await get(`/task/${taskId}/runs/1/artifacts`), 404, 'ResourceNotFound', `Task with taskId: \`${taskId}\` has no run with runId: 1`);
  is(await get(`/task/${taskId}/runs/x/artifacts`), 400, 'InvalidRequestArguments');
});

test('C26, F8: what a pending run does not allow', async () => {
  const [id] = await created();
  is(await post(`/task/${id}/runs/0/reclaim`), 409, 'RequestConflict', `Run 0 on task \`${id}\` is resolved or not running.`);
  is(await post(`/task/${id}/runs/0/completed`), 409, 'RequestConflict', `Run 0 of task \`${id}\` is not running or completed.`);
  is(await post(`/task/${id}/runs/0/failed`), 409, 'RequestConflict');
  is(await post(`/task/${id}/runs/0/exception`, { reason: 'internal-error' }), 409, 'RequestConflict');
  is(await post(`/task/${id}/runs/0/exception`, { reason: 'superseded' }), 400, 'InputValidationError');
});

test('C39-C40, F9: groups and priorities', async () => {
  const [id, tq] = await created({ schedulerId: 's' });
  const cancel = sign => post(`/task-group/${id}/cancel`, undefined, sign);
  is(await cancel(nobody), 409, 'RequestConflict');
  const sealed = await post(`/task-group/${id}/seal`);
  assert.deepEqual((await post(`/task-group/${id}/seal`)).json, sealed.json);
  is(await cancel(nobody), 403, 'InsufficientScopes');

  assert.equal((await post(`/task/${id}/priority`, { newPriority: 'lowest' })).status, 200);
  is(await post(`/task/${id}/priority`, { newPriority: 'normal' }), 400, 'InputValidationError');
  assert.deepEqual((await post(`/task-group/${id}/priority`, { newPriority: 'high' })).json,
    { taskGroupId: id, schedulerId: 's', newPriority: 'high', tasksAffected: 1, taskIds: [id] });
  assert.equal((await claim(tq)).task.priority, 'high');
  assert.deepEqual((await cancel()).json, { taskGroupId: id, taskGroupSize: 1, cancelledCount: 1, taskIds: [id] });
  assert.deepEqual((await cancel()).json, { taskGroupId: id, taskGroupSize: 1, cancelledCount: 0, taskIds: [] });
  is(await post(`/task/${id}/priority`, { newPriority: 'low' }), 409, 'RequestConflict', `Task \`${id}\` is already resolved and cannot be reprioritized.`);
});

test('past the deadline', async () => {
  const [id] = await created({ deadline: from('2 seconds') });
  const deadline = (await queue.status(id)).status.deadline;
  await new Promise(resolve => setTimeout(resolve, Date.parse(deadline) - Date.now() + 20));
  is(await post(`/task/${id}/schedule`), 409, 'RequestConflict', `Task \`${id}\` can't be scheduled past its deadline at ${deadline}.`);
  is(await post(`/task/${id}/rerun`), 409, 'RequestConflict', `Task \`${id}\` can't be rescheduled past its deadline of ${deadline}.`);
  is(await post(`/task/${id}/cancel`), 409, 'RequestConflict', /past its deadline/);
  is(await post(`/task/${id}/priority`, { newPriority: 'low' }), 409, 'RequestConflict');
  is(await post(`/task/${id}/runs/0/claim`, worker), 409, 'RequestConflict');
});
