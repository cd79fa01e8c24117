import test from 'node:test';
import assert from 'node:assert/strict';
import { ownClient, queue, rootUrl, slugid, freshQueue, taskDef } from './common.mjs';

const ownEvents = await ownClient('events');
const queueExchange = name => `exchange/taskcluster-queue/v1/${name}`;
const bindingsOf = taskId => JSON.stringify({
  bindings: ['task-defined', 'task-pending', 'task-exception'].map(name => ({ exchange: queueExchange(name), routingKeyPattern: `primary.${taskId}.#` })),
});

/** Yields the events of a stream, until it ends or is left. */
async function* events(bindings, lastEventId) {
  const leave = new AbortController();
  const response = await fetch(`${rootUrl}/api/events/v1/connect/?bindings=${encodeURIComponent(bindings)}`, {
    headers: lastEventId ? { 'Last-Event-ID': lastEventId } : {}, signal: leave.signal,
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'text/event-stream');
  let text = '';
  try {
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
        const { event, data, id } = Object.fromEntries(text.slice(0, end).split('\n').map(line => line.split(/: (.*)/s)));
        if (event) { // else it is the time after which to reconnect
          yield { event, id, data: JSON.parse(data) };
        }
      }
    }
  } finally {
    leave.abort();
  }
}

const next = async stream => {
  for (;;) {
    const { value, done } = await stream.next();
    if (done || value.event !== 'ping') {
      return value;
    }
  }
};

test('a task is followed, from where one was after a disconnection', async () => {
  const taskId = slugid();
  const bindings = bindingsOf(taskId);
  const stream = events(bindings);
  assert.equal((await next(stream)).event, 'ready');
  await queue.createTask(taskId, taskDef(freshQueue()));
  const defined = await next(stream);
  assert.equal(defined.event, 'message');
  assert.equal(defined.data.exchange, queueExchange('task-defined'));
  assert.equal(defined.data.payload.status.taskId, taskId);
  await stream.return();

  await queue.cancelTask(taskId);
  const resumed = events(bindings, defined.id);
  assert.equal((await next(resumed)).event, 'ready');
  const rest = [await next(resumed), await next(resumed)];
  assert.deepEqual(rest.map(e => e.data.exchange), [queueExchange('task-pending'), queueExchange('task-exception')]);
  await resumed.return();
});

test('a stream that ends when all is told; the official library reads it', async () => {
  await ownEvents.ping();
  await ownEvents.lbheartbeat();
  await ownEvents.version();
  // The library makes nothing of an answer that is not JSON, but it comes to its end.
  await ownEvents.connect({ bindings: bindingsOf(slugid()), after: '0', follow: 'false' });
  await assert.rejects(ownEvents.socket(), { statusCode: 400 }); // it is no client for WebSockets
});
