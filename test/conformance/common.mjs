// What the test files share.
import taskcluster from 'taskcluster-client';
import assert from 'node:assert/strict';

export const rootUrl = process.env.TASKCLUSTER_ROOT_URL;
export const root = { clientId: process.env.TASKCLUSTER_CLIENT_ID, accessToken: process.env.TASKCLUSTER_ACCESS_TOKEN };
export const auth = new taskcluster.Auth({ rootUrl, credentials: root, retries: 0 });
export const queue = new taskcluster.Queue({ rootUrl, credentials: root, retries: 0 });
export { taskcluster };

export const slugid = () => taskcluster.slugid();
let counter = 0;

/** A task queue that no other test uses. */
export const freshQueue = () => `conformance/q${process.pid}-${++counter}`;

export function taskDef(taskQueueId, more = {}) {
  return {
    taskQueueId,
    created: taskcluster.fromNowJSON('0 seconds'),
    deadline: taskcluster.fromNowJSON('1 hour'),
    payload: {},
    metadata: { name: 'A task', description: 'For a test', owner: 'nobody@example.com', source: 'https://example.com/source' },
    ...more,
  };
}

/** Runs fn, which must fail with this status and code. */
export async function refused(fn, statusCode, code) {
  try {
    await fn();
  } catch (err) {
    assert.equal(err.statusCode, statusCode, err.message);
    assert.equal(err.code, code, err.message);
    assert.deepEqual(Object.keys(err.body).sort(), ['code', 'message', 'requestInfo']);
    return err;
  }
  assert.fail(`should have been refused with ${statusCode} ${code}`);
}

export const worker = { workerGroup: 'group', workerId: 'worker' };

/** Claims one task from a queue and gives a client with the task's credentials too. */
export async function claim(taskQueueId, w = worker) {
  const { tasks } = await queue.claimWork(taskQueueId, { ...w, tasks: 1 });
  assert.equal(tasks.length, 1);
  const c = tasks[0];
  return { ...c, client: new taskcluster.Queue({ rootUrl, credentials: c.credentials, retries: 0 }) };
}
