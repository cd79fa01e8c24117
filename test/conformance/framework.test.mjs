// Routing, bodies, errors and headers that every API has in common. The
// numbers are those of the list of edge cases that the project works from.
import test from 'node:test';
import assert from 'node:assert/strict';
import { brotliCompressSync, deflateSync, gunzipSync, gzipSync } from 'node:zlib';
import { auth, queue, root, rootUrl, slugid, taskDef, freshQueue } from './common.mjs';
import { raw, only } from './raw.mjs';

const A = '/api/auth/v1';
const Q = '/api/queue/v1';
const signed = { sign: root };
const json = { 'content-type': 'application/json' };

function is(answer, status, code, message) {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.code, code, answer.text);
  if (message instanceof RegExp) assert.match(answer.message, message);
  else if (message !== undefined) assert.equal(answer.message, message);
}

test('A1-A4: trailing slashes, letter case, splats and unknown paths', async () => {
  assert.equal((await raw('GET', `${A}/ping/`)).status, 200);
  for (const [method, path] of [['GET', `${A}/PING`], ['GET', `${A}/nope`], ['POST', `${A}/ping`], ['GET', `${A}`], ['OPTIONS', `${A}/nope`]]) {
    const r = await raw(method, path);
    assert.equal(r.status, 404, path);
    assert.deepEqual(r.json, { error: 'Not found' });
    assert.match(r.headers['content-type'], /^application\/json/);
    assert.equal(r.headers['cache-control'], 'no-store no-cache must-revalidate');
    assert.equal(r.headers['access-control-allow-origin'], '*');
  }
  for (const path of ['/api', '/api/', '/api/auth/v2/ping', '/api/nope/v1/ping']) assert.deepEqual((await raw('GET', path)).json, { error: 'Not found' }, path);
  // A splat takes raw and encoded slashes alike; the literal after it still counts.
  const tq = freshQueue();
  for (const form of [tq, encodeURIComponent(tq)]) {
    assert.equal((await raw('GET', `${Q}/task-queues/${form}/counts`, signed)).json.taskQueueId, tq);
    assert.equal((await raw('GET', `${Q}/task-queues/${form}/counts/`, signed)).status, 200);
  }
  is(await raw('GET', `${Q}/task-queues//counts`, signed), 400, 'InvalidRequestArguments');
  // Elsewhere a raw slash begins another segment.
  assert.equal((await raw('GET', `${A}/clients/${encodeURIComponent(root.clientId)}`, signed)).status, 200);
  assert.deepEqual((await raw('GET', `${A}/clients/${root.clientId}`, signed)).json, { error: 'Not found' });
});

test('A5-A6: URL and query parameters', async () => {
  is(await raw('GET', `${Q}/task/nope`, signed), 400, 'InvalidRequestArguments',
    "Invalid URL patterns:\nURL parameter 'taskId' given as 'nope' must match regular expression: " +
    "'/^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$/'");
  const list = query => raw('GET', `${Q}/task-queues?${query}`, signed);
  is(await list('foo=1'), 400, 'InvalidRequestArguments', 'Query-string parameter: foo is not supported!');
  is(await list('limit=x'), 400, 'InvalidRequestArguments', 'Query-string parameter: limit="x" does not match expression: /^[0-9]+$/');
  is(await list('limit=1&limit=2'), 400, 'InvalidRequestArguments', 'Query-string parameter: limit must be a string!');
  is(await list('limit='), 400, 'InvalidRequestArguments');
  is(await list('continuationToken='), 400, 'InvalidRequestArguments');
  const both = await list('foo=1&limit=x');
  assert.equal(both.message.split('\n').length, 2);
});

test('A7-A8: headers, HEAD, OPTIONS and compression', async () => {
  const cors = {
    'access-control-allow-origin': '*', 'access-control-max-age': '900', 'access-control-request-method': '*',
    'access-control-allow-methods': 'OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT',
    'access-control-allow-headers': 'X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control',
    'cache-control': 'no-store no-cache must-revalidate', 'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; report-uri /__cspreport__",
  };
  const get = await raw('GET', `${A}/ping`, { headers: { origin: 'https://elsewhere.example.com' } });
  const head = await raw('HEAD', `${A}/ping`);
  const options = await raw('OPTIONS', `${Q}/task/${slugid()}`, { headers: { origin: 'https://elsewhere.example.com' } });
  for (const r of [get, head, options]) {
    assert.equal(r.status, 200);
    assert.equal(r.headers['x-powered-by'], undefined);
    for (const [name, value] of Object.entries(cors)) assert.equal(r.headers[name], value, name);
  }
  assert.equal(head.text, '');
  assert.deepEqual(options.headers.allow.split(/, */).sort(), ['GET', 'HEAD', 'PUT']);

  const taskId = slugid(); // of this test alone: nobody changes it between the requests
  await queue.createTask(taskId, taskDef(freshQueue(), { payload: { text: 'x'.repeat(2000) } }));
  const large = `${Q}/task/${taskId}`;
  const plain = await raw('GET', large, signed);
  assert.ok(plain.bytes.length > 1024);
  assert.equal(plain.headers['content-encoding'], undefined);
  const packed = await raw('GET', large, { ...signed, headers: { 'accept-encoding': 'gzip, deflate, br' } });
  assert.equal(packed.headers['content-encoding'], 'gzip');
  assert.deepEqual(JSON.parse(gunzipSync(packed.bytes)), plain.json);
  assert.equal((await raw('GET', large, { ...signed, headers: { 'accept-encoding': 'gzip;q=0' } })).headers['content-encoding'], undefined);
  assert.equal((await raw('GET', `${A}/ping`, { headers: { 'accept-encoding': 'gzip' } })).headers['content-encoding'], undefined);
});

test('A9: the form of errors', async () => {
  const taskId = slugid();
  const body = { newPriority: 'high' };
  const r = await raw('POST', `${Q}/task/${taskId}/priority`, { ...signed, body });
  is(r, 404, 'ResourceNotFound');
  assert.deepEqual(Object.keys(r.json), ['code', 'message', 'requestInfo']);
  assert.deepEqual(Object.keys(r.json.requestInfo), ['method', 'params', 'payload', 'time']);
  assert.equal(r.json.requestInfo.method, 'changeTaskPriority');
  assert.deepEqual(r.json.requestInfo.params, { taskId });
  assert.deepEqual(r.json.requestInfo.payload, body);
  assert.equal(r.json.message.split('\n\n---\n\n')[1],
    `* method:     changeTaskPriority\n* errorCode:  ResourceNotFound\n* statusCode: 404\n* time:       ${r.json.requestInfo.time}`);
  assert.equal(new Date(r.json.requestInfo.time).toJSON(), r.json.requestInfo.time);
});

test('A12, F1, F18, F26, F27: bodies', async () => {
  const post = (body, headers = json) => raw('POST', `${A}/scopes/expand`, { ...signed, body, headers });
  const good = '{"scopes":["a"]}';
  for (const type of ['text/x-json', 'text/plain', undefined]) {
    is(await post(good, type ? { 'content-type': type } : {}), 400, 'MalformedPayload', /^Payload must be JSON with content-type: application\/json/);
  }
  for (const headers of [json, { 'content-type': 'Application/JSON; charset="UTF-8"' }]) assert.deepEqual((await post(good, headers)).json, { scopes: ['a'] });
  is(await post('{"scopes":'), 400, 'MalformedPayload', /^Failed to parse JSON: /);
  is(await post('  '), 400, 'MalformedPayload', /^Failed to parse JSON: /);
  for (const primitive of ['null', '5', '"text"', 'true']) is(await post(primitive), 400, 'MalformedPayload', 'Must be an object or array');
  is(await post('[]'), 400, 'InputValidationError', /data must be object/);
  is(await post(''), 400, 'InputValidationError', /data must have required property 'scopes'/);
  is(await post('{"scopes":["a\\u0000"]}'), 400, 'InputValidationError');
  is(await post(Buffer.concat([Buffer.from('{"scopes":["'), Buffer.from([0xff]), Buffer.from('"]}')])), 400, 'MalformedPayload');
  is(await post(`{"scopes":${'['.repeat(20000)}${']'.repeat(20000)}}`), 400, 'MalformedPayload');
  is(await post('x'.repeat(11 << 20)), 413, 'InputTooLarge');
  is(await post(good, { 'content-type': 'application/json; charset=utf-16' }), 400, 'MalformedPayload');

  assert.deepEqual((await post(gzipSync(good), { ...json, 'content-encoding': 'gzip' })).json, { scopes: ['a'] });
  assert.deepEqual((await post(deflateSync(good), { ...json, 'content-encoding': 'deflate' })).json, { scopes: ['a'] });
  is(await post(gzipSync(Buffer.alloc(30 << 20, ' ')), { ...json, 'content-encoding': 'gzip' }), 413, 'InputTooLarge');
  assert.deepEqual((await post(brotliCompressSync(good), { ...json, 'content-encoding': 'br' })).json, { scopes: ['a'] });
  is(await post(good, { ...json, 'content-encoding': 'zstd' }), 400, 'MalformedPayload', /zstd/);

  // A method without input ignores bodies, but JSON must be JSON.
  const schedule = body => raw('POST', `${Q}/task/${slugid()}/schedule`, { ...signed, body, headers: json });
  is(await schedule('{}'), 404, 'ResourceNotFound');
  is(await schedule('{'), 400, 'MalformedPayload');
  is(await schedule('7'), 400, 'MalformedPayload');

  for (const path of [`${Q}/task/%zz`, `${Q}/task/${slugid()}/runs/0/artifacts/%zz`]) {
    const r = await raw('GET', path, signed);
    assert.equal(r.status, 400);
    assert.deepEqual(Object.keys(r.json), ['code', 'message', 'requestInfo']);
  }
});

test('A12: all problems of a body are named, under the address of the schema', async () => {
  const r = await raw('POST', `${A}/scopes/expand`, { ...signed, body: { scopes: 'a', more: 1 } });
  is(r, 400, 'InputValidationError');
  const [head, ...problems] = r.message.split('\n  * ');
  assert.equal(head, `\nSchema Validation Failed!\nRejecting Schema: ${rootUrl}/schemas/auth/v1/scopeset.json#\nErrors:`);
  assert.deepEqual(problems.sort(), ['data must NOT have additional properties: "more"', 'data/scopes must be array']);
});

test('A16-A17, A20: insufficient scopes', async () => {
  const path = `${A}/clients/${encodeURIComponent('some/client')}`;
  is(await raw('GET', path), 403, 'InsufficientScopes',
    'This request requires Taskcluster credentials that satisfy the following scope expression:\n\n```\nauth:get-client:some/client\n```');
  const input = { clientScopes: ['a:*'], requiredScopes: ['a:b', 'b:c', 'b:d'] };
  const tester = { clientId: 'tester', accessToken: 'no-secret' };
  const call = requiredScopes => raw('POST', `${A}/test-authenticate`, { sign: tester, body: { ...input, requiredScopes } });
  const two = await call(['a:b', 'b:c', 'b:d']);
  is(two, 403, 'InsufficientScopes');
  assert.match(two.message, /^Client ID tester does not have sufficient scopes and is missing the following scopes:\n\n```\n/);
  const [missing, required] = two.message.split('```').filter((_, i) => i % 2).map(s => JSON.parse(s));
  assert.deepEqual(missing, { AllOf: ['b:c', 'b:d'] });
  assert.deepEqual(required, { AllOf: ['a:b', 'b:c', 'b:d'] });
  assert.equal((await call(['a:b', 'b:c'])).message.split('```')[1], '\nb:c\n');
  assert.equal((await call(['a:b'])).status, 200);
  is(await raw('GET', path, { sign: { clientId: 'nobody', accessToken: 'x' } }), 401, 'AuthenticationFailed');
});

test('A19: a public method looks at no credentials', async () => {
  for (const options of [{ sign: { clientId: 'nobody', accessToken: 'x' } }, { headers: { authorization: 'nonsense' } }]) {
    assert.equal((await raw('GET', `${Q}/ping`, options)).status, 200);
  }
  assert.equal((await raw('GET', `${Q}/ping?bewit=nonsense`)).status, 200);
});

test('A22-A23, F3: paging', async () => {
  const prefix = `paging/${slugid()}/`;
  const expires = new Date(Date.now() + 3600e3).toJSON();
  for (const name of ['a', 'b', 'c']) await auth.createClient(prefix + name, { expires, description: '' });
  const names = async query => {
    const r = await auth.listClients({ prefix, ...query });
    return [r.clients.map(c => c.clientId.slice(prefix.length)), r.continuationToken];
  };
  assert.deepEqual(await names({ limit: 3 }), [['a', 'b', 'c'], undefined]);
  assert.deepEqual(await names({ limit: 1001 }), [['a', 'b', 'c'], undefined]);
  assert.deepEqual(await names({ limit: 0 }), [[], undefined]);
  const [first, continuationToken] = await names({ limit: 2 });
  assert.deepEqual(first, ['a', 'b']);
  assert.deepEqual(await names({ limit: 2, continuationToken }), [['c'], undefined]);

  for (const path of [`${A}/clients/`, `${A}/roles2/`, `${A}/roleids/`]) {
    assert.equal((await raw('GET', `${path}?limit=0`, signed)).json.continuationToken, undefined);
    is(await raw('GET', `${path}?limit=1&continuationToken=%40%40something%23%23`, signed), 400, 'InputError', 'Invalid continuation token');
  }
  for (const path of [`${A}/roles2/`, `${A}/roleids/`]) is(await raw('GET', `${path}?continuationToken=FOOBAR`, signed), 400, 'InputError');
});

test('A23: tokens that are numbers of a place have letters and digits only', async () => {
  const taskId = slugid();
  const tq = freshQueue();
  await queue.createTask(taskId, taskDef(tq));
  const [provisioner, workerType] = tq.split('/');
  const token = 'continuationToken=%40%40something%23%23';
  for (const path of ['/provisioners', '/task-queues', `/provisioners/${provisioner}/worker-types`, `/provisioners/${provisioner}/worker-types/${workerType}/workers`,
    `/task/${taskId}/dependents`, `/task-group/${taskId}/list`]) {
    is(await raw('GET', `${Q}${path}?${token}`, signed), 400, 'InputError', 'Invalid continuation token');
  }
  for (const path of ['/tasks', '/tasks/status']) is(await raw('POST', `${Q}${path}?${token}`, { ...signed, body: { taskIds: [taskId] } }), 400, 'InputError');
});

test('A23: paging of tasks begins anew where a token means nothing', async () => {
  const tq = freshQueue();
  const ids = [slugid(), slugid()];
  for (const id of ids) await queue.createTask(id, taskDef(tq));
  const page = token => raw('GET', `${Q}/task-queues/${encodeURIComponent(tq)}/pending?limit=1&continuationToken=${encodeURIComponent(token)}`, signed);
  for (const token of ['!!', 'aaaa', btoa('{}'), btoa('[1]'), btoa('not JSON')]) {
    const r = await page(token);
    assert.equal(r.status, 200, token);
    assert.deepEqual(r.json.tasks.map(t => t.taskId), [ids[0]], token);
  }
});

test('A24-A25: tracing, and what every process answers', async () => {
  const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  const a = await raw('GET', `${A}/ping`, { headers: { 'x-taskcluster-trace-id': 'my-trace' } });
  assert.equal(a.headers['x-for-trace-id'], 'my-trace');
  assert.match(a.headers['x-for-request-id'], uuid);
  assert.match((await raw('GET', `${A}/ping`)).headers['x-for-trace-id'], uuid);
  for (const path of ['/__heartbeat__', '/__lbheartbeat__', '/__heartbeat__/more', `${A}/__heartbeat__`, `${A}/__lbheartbeat__`, `${Q}/__heartbeat__`, `${Q}/__lbheartbeat__`]) {
    assert.deepEqual((await raw('GET', path)).json, {}, path);
  }
  assert.deepEqual((await raw('POST', '/__lbheartbeat__')).json, {});
  for (const path of ['/__version__', `${A}/__version__`, `${Q}/__version__`]) {
    assert.deepEqual(Object.keys((await raw('GET', path)).json).sort(), ['build', 'commit', 'source', 'version'], path);
  }
  assert.deepEqual((await raw('GET', '/no/such/path')).json, { error: 'Not found' });
  const robots = await raw('GET', '/robots.txt');
  assert.equal(robots.text, 'User-Agent: *\nDisallow: /\n');
  assert.match(robots.headers['content-type'], /^text\/plain/);
});

test('references and schemas: the manifest leads to all of them', async () => {
  const manifest = (await raw('GET', '/references/manifest.json')).json;
  assert.equal(manifest.$schema, `${rootUrl}/schemas/common/manifest-v3.json#`);
  assert.deepEqual(manifest.references, [...manifest.references].sort());
  const get = async url => {
    const r = await raw('GET', url.slice(rootUrl.length).replace('#', ''));
    assert.equal(r.status, 200, url);
    assert.match(r.headers['content-type'], /^application\/json/);
    assert.equal(r.headers['access-control-allow-origin'], '*');
    return r.json;
  };
  const schemas = new Set([manifest.$schema]);
  for (const url of manifest.references) {
    const reference = await get(url);
    schemas.add(reference.$schema);
    const base = `${rootUrl}/schemas/${reference.serviceName}/`;
    for (const entry of reference.entries) {
      for (const name of [entry.input, entry.output, entry.schema]) if (name && name !== 'blob') schemas.add(base + name);
    }
  }
  const pending = [...schemas];
  for (const url of pending) {
    const schema = await get(url);
    assert.equal(schema.$id, url);
    assert.ok(schema.$schema.startsWith(`${rootUrl}/schemas/`) || schema.$schema.startsWith('http://json-schema.org/'), url);
    JSON.stringify(schema, (key, value) => {
      if (key === '$ref' && typeof value === 'string' && !value.startsWith('#')) {
        const target = new URL(value, url).href.replace(/#.*/, '#');
        if (target.startsWith(rootUrl) && !pending.includes(target)) pending.push(target);
      }
      return value;
    });
  }
  const all = (await raw('GET', '/references/references.json')).json;
  const files = new Set(all.map(f => f.filename));
  for (const url of [...manifest.references, ...pending]) assert.ok(files.has(url.slice(rootUrl.length + 1).replace('#', '')), url);
  assert.ok(!JSON.stringify(all).includes(rootUrl), 'references.json is in abstract form');
});

test('a method whose URL alone decides is authorized first, others late', async () => {
  const nobody = only();
  is(await raw('POST', `${Q}/task/${slugid()}/runs/0/exception`, { sign: nobody, body: { reason: 'nonsense' } }), 403, 'InsufficientScopes');
  is(await raw('POST', `${Q}/task/nope/runs/x/reclaim`, { sign: nobody }), 403, 'InsufficientScopes');
  is(await raw('GET', `${A}/clients/nope?foo=1`, { sign: nobody }), 403, 'InsufficientScopes');
  is(await raw('PUT', `${Q}/task/nope`, { sign: nobody, body: {} }), 400, 'InvalidRequestArguments');
  is(await raw('PUT', `${Q}/task/${slugid()}`, { sign: nobody, body: {} }), 400, 'InputValidationError');
  is(await raw('POST', `${Q}/task/${slugid()}/cancel`, { sign: nobody }), 404, 'ResourceNotFound');
});
