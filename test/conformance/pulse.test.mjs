// The pulse service, with the broker that the server has: users that are lent,
// seen from the side of who lends them.
import test from 'node:test';
import assert from 'node:assert/strict';
import amqp from 'amqplib';
import { ownClient, queue, freshQueue, taskDef, slugid, taskcluster, refused, root, rootUrl } from './common.mjs';

const pulse = await ownClient('pulse');

test('utilities', async () => {
  assert.equal((await pulse.ping()).alive, true);
  await pulse.lbheartbeat();
  await pulse.heartbeat();
  assert.ok((await pulse.version()).version);
});

test('a namespace is claimed, and its user reads events', async () => {
  const namespace = `pulse-conformance-${process.pid}`;
  const claim = await pulse.claimNamespace(namespace, { expires: taskcluster.fromNowJSON('1 hour') });
  assert.deepEqual(Object.keys(claim).sort(), ['connectionString', 'created', 'expires', 'namespace', 'reclaimAt']);
  assert.deepEqual(await pulse.claimNamespace(namespace, { expires: claim.expires }), claim);
  assert.deepEqual(await pulse.namespace(namespace), { namespace, created: claim.created, expires: claim.expires });
  const { namespaces } = await pulse.listNamespaces();
  assert.ok(namespaces.some(n => n.namespace === namespace));

  const connection = await amqp.connect(claim.connectionString);
  try {
    const channel = await connection.createChannel();
    const { queue: name } = await channel.assertQueue(`queue/${namespace}/tasks`, { exclusive: true });
    const taskQueueId = freshQueue();
    const taskId = slugid();
    await channel.bindQueue(name, 'exchange/taskcluster-queue/v1/task-defined', `primary.${taskId}.#`);
    const message = new Promise(resolve => channel.consume(name, resolve, { noAck: true }));
    await queue.createTask(taskId, taskDef(taskQueueId));
    assert.equal(JSON.parse((await message).content).status.taskId, taskId);
    await channel.close();

    const forbidden = await connection.createChannel();
    forbidden.on('error', () => {});
    await assert.rejects(forbidden.assertQueue('queue/pulse-another/tasks'), /ACCESS_REFUSED/);
  } finally {
    await connection.close();
  }
});

test('refusals', async () => {
  await refused(() => pulse.namespace('pulse-nobody'), 404, 'ResourceNotFound');
  await refused(() => pulse.claimNamespace('other', {}), 400, 'InvalidNamespace');
  await refused(() => pulse.claimNamespace('pulse-x', { more: 1 }), 400, 'InputValidationError');
  const err = await refused(() => pulse.claimNamespace('pulse-x', { contact: 'me@example.com' }), 409, 'NotConfigured');
  assert.match(err.message, /smtp-url/);
  const reference = await (await fetch(`${rootUrl}/references/pulse/v1/api.json`)).json();
  const Pulse = taskcluster.createClient(reference);
  const other = new Pulse({ rootUrl, credentials: root, authorizedScopes: ['pulse:namespace:pulse-y'], retries: 0 });
  await refused(() => other.claimNamespace('pulse-x', {}), 403, 'InsufficientScopes');
  await other.claimNamespace('pulse-y', {});
});
