// What the test files share.
import taskcluster from 'taskcluster-client';
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';

export const rootUrl = process.env.TASKCLUSTER_ROOT_URL;
export const root = { clientId: process.env.TASKCLUSTER_CLIENT_ID, accessToken: process.env.TASKCLUSTER_ACCESS_TOKEN };
export const auth = new taskcluster.Auth({ rootUrl, credentials: root, retries: 0 });
export const queue = new taskcluster.Queue({ rootUrl, credentials: root, retries: 0 });
export const object = new taskcluster.Object({ rootUrl, credentials: root, retries: 0 });
export const purgeCache = new taskcluster.PurgeCache({ rootUrl, credentials: root, retries: 0 });
export { taskcluster };

/** Notes that a method was called and answered as it should, for the check that none is left out. */
export function called(service, method) {
  if (process.env.CONFORMANCE_CALLED) appendFileSync(process.env.CONFORMANCE_CALLED, `${service}.${method}\n`);
}

/** Has a class of clients note each call that succeeds. */
export function noting(Client, service) {
  for (const [name, method] of Object.entries(Client.prototype)) {
    if (!method.entryReference) continue;
    Client.prototype[name] = Object.assign(async function(...args) {
      const answer = await method.apply(this, args);
      called(service, name);
      return answer;
    }, { entryReference: method.entryReference });
  }
  return Client;
}
noting(taskcluster.Auth, 'auth');
noting(taskcluster.Queue, 'queue');
noting(taskcluster.Object, 'object');
noting(taskcluster.PurgeCache, 'purge-cache');

/** A client that the official library makes of what this deployment publishes, for methods that the library does not know. */
export async function ownClient(service) {
  const reference = await (await fetch(`${rootUrl}/references/${service}/v1/api.json`)).json();
  return new (noting(taskcluster.createClient(reference), service))({ rootUrl, credentials: root, retries: 0 });
}

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
