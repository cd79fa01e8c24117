// Hawk headers, bewits, temporary credentials: what is accepted, and the exact
// words of what is not.
import test from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { auth, root, rootUrl, slugid, taskcluster } from './common.mjs';
import { raw, bewit, ext } from './raw.mjs';

const A = '/api/auth/v1';
const tester = { clientId: 'tester', accessToken: 'no-secret' };
const get = (sign, signing = {}, headers = {}) => raw('GET', `${A}/test-authenticate-get/`, { sign, signing, headers });
const withExt = value => get(tester, { ext: ext(value) });

function accepted(r, clientId, scopes) {
  assert.equal(r.status, 200, r.text);
  if (clientId) assert.equal(r.json.clientId, clientId);
  if (scopes) assert.deepEqual(r.json.scopes, scopes);
}
function unauthorized(r, message) {
  assert.equal(r.status, 401, r.text);
  assert.equal(r.code, 'AuthenticationFailed');
  assert.equal(r.headers['www-authenticate'], 'hawk');
  if (message instanceof RegExp) assert.match(r.message, message);
  else if (message) assert.equal(r.message, message);
}

test('B1: bad MAC, unknown client, and headers that are none', async () => {
  unauthorized(await get({ ...tester, accessToken: 'wrong' }), 'Unauthorized: Bad mac');
  const unknown = await raw('GET', `${A}/scopes/current`, { sign: { clientId: 'nobody', accessToken: 'x' } });
  unauthorized(unknown, "Client with clientId 'nobody' not found");
  for (const [header, message] of [
    ['Basic dGVzdDp0ZXN0', 'Unauthorized'],
    ['Hawk', /^Bad Request: /],
    ['Hawk id="tester"', 'Bad Request: Missing attributes'],
    ['Hawk id="tester", id="other"', 'Bad Request: Duplicate attribute: id'],
    ['Hawk id="tester", thing="x"', 'Bad Request: Unknown attribute: thing'],
    ['Hawk id="a\\"', 'Bad Request: Bad header format'],
    [`Hawk id="${'a'.repeat(4096)}"`, 'Bad Request: Header length too long'],
  ]) unauthorized(await raw('GET', `${A}/scopes/current`, { headers: { authorization: header } }), message);
});

test('the clock may be 15 minutes off', async () => {
  const now = Math.floor(Date.now() / 1000);
  for (const off of [-880, 880]) accepted(await get(tester, { timestamp: now + off }));
  for (const off of [-920, 920]) unauthorized(await get(tester, { timestamp: now + off }), 'Unauthorized: Stale timestamp');
});

test('host and port are those that the sender saw', async () => {
  accepted(await get(tester, { port: 443 }, { 'x-forwarded-port': '443' }));
  accepted(await get(tester, { port: 8443 }, { 'x-forwarded-port': '8443, 80', 'x-forwarded-proto': 'https' }));
  accepted(await get(tester, { port: 443 }, { 'x-forwarded-proto': 'https' }));
  accepted(await get(tester, { host: 'tc.example.com', port: 80 }, { host: 'TC.example.com' }));
  accepted(await get(tester, { host: 'tc.example.com', port: 8080 }, { host: 'tc.example.com:8080' }));
  unauthorized(await get(tester, { port: 443 }, {}), 'Unauthorized: Bad mac');
});

test('B2: ext', async () => {
  for (const value of [{}, { thing: 1 }]) accepted(await withExt(value), 'tester');
  for (const text of ['abc', ext('not JSON'), ext('[1]')]) unauthorized(await get(tester, { ext: text }), 'Failed to parse ext');
  accepted(await get(tester, { app: 'my-app', dlg: 'someone' }), 'tester');
});

test('B3, B10, B11: certificates, one fault at a time', async () => {
  const now = Date.now();
  const hour = 3600e3;
  const good = { version: 1, scopes: ['test:a'], start: now - 1000, expiry: now + hour, seed: slugid() + slugid(), signature: 'x' };
  const c = 'ext.certificate';
  unauthorized(await withExt({ certificate: 'text' }), `${c} must be a JSON object`);
  for (const [fault, message] of [
    [{ version: 2 }, `${c}.version must be 1`],
    [{ seed: 7 }, `${c}.seed must be a string`],
    [{ seed: slugid() }, `${c}.seed must be 44 characters`],
    [{ start: new Date(now).toJSON() }, `${c}.start must be a number`],
    [{ expiry: new Date(now).toJSON() }, `${c}.expiry must be a number`],
    [{ start: undefined }, `${c}.start must be a number`],
    [{ scopes: 'a' }, `${c}.scopes must be an array`],
    [{ scopes: [1] }, `${c}.scopes must be an array of valid scopes`],
    [{ scopes: ['a\nb'] }, `${c}.scopes must be an array of valid scopes`],
    [{ start: now + hour, expiry: now + 2 * hour }, `${c}.start > now`],
    [{ start: now - 2 * hour, expiry: now - hour }, `${c}.expiry < now`],
    [{ expiry: now + 365 * 24 * hour }, `${c} cannot last longer than 31 days!`],
    [{ issuer: 5 }, `${c}.issuer must be a string`],
    [{ issuer: 'tester' }, `${c}.issuer must differ from the supplied clientId`],
    [{ clientId: 'tester' }, `${c}.clientId must only be used with ${c}.issuer`],
    [{ scopes: ['other'] }, `${c} issuer \`tester\` doesn't satisfy all certificate scopes other.  The temporary credentials were not generated correctly.`],
    [{}, `${c}.signature is not valid`],
    [{ signature: 'YQ==' }, `${c}.signature is not valid`],
    [{ signature: '' }, `${c}.signature is not valid`],
    [{ signature: undefined }, `${c}.signature is not valid`],
  ]) unauthorized(await withExt({ certificate: { ...good, ...fault } }), message);
});

test('B8, B12, F4: temporary credentials, named and not', async () => {
  const make = more => taskcluster.createTemporaryCredentials({
    credentials: tester, start: taskcluster.fromNow('-1 minute'), expiry: taskcluster.fromNow('1 hour'), scopes: ['test:*'], ...more,
  });
  accepted(await get(make()), 'tester', ['assume:anonymous', 'test:*']);
  accepted(await get(make({ clientId: 'test:name' })), 'test:name', ['assume:anonymous', 'test:*']);
  unauthorized(await get({ ...make({ clientId: 'test:name' }), clientId: 'test:other' }), 'ext.certificate.signature is not valid, or wrong clientId provided');
  unauthorized(await get(make({ clientId: 'other:name' })), "ext.certificate issuer `tester` doesn't have `auth:create-client:other:name` for supplied clientId.");
  const { certificate, ...named } = make({ clientId: 'test:name' });
  unauthorized(await get({ ...named, certificate: JSON.stringify({ ...JSON.parse(certificate), issuer: 'nobody' }) }), /not found|not valid/);
  // The JavaScript client signs an empty list of scopes in its own way.
  assert.equal((await get(make({ scopes: [] }))).status, 403);
  // Allowances: five minutes.
  accepted(await get(make({ start: taskcluster.fromNow('4 minutes') })));
  accepted(await get(make({ start: taskcluster.fromNow('-1 hour'), expiry: taskcluster.fromNow('-4 minutes') })));
});

test('B6-B7: authorizedScopes', async () => {
  accepted(await withExt({ authorizedScopes: ['test:z', 'test:authenticate-get', 'test:b*', 'test:bb'] }), 'tester',
    ['assume:anonymous', 'test:authenticate-get', 'test:b*', 'test:z']);
  for (const authorizedScopes of [[], ['test:other']]) assert.equal((await withExt({ authorizedScopes })).status, 403);
  unauthorized(await withExt({ authorizedScopes: 'test:*' }), 'ext.authorizedScopes must be an array');
  unauthorized(await withExt({ authorizedScopes: [1] }), 'ext.authorizedScopes must be an array of valid scopes');
  unauthorized(await withExt({ authorizedScopes: ['other'] }),
    'Supplied credentials do not satisfy authorizedScopes; credentials have scopes:\n\n```\nassume:anonymous\nauth:create-client:test:*\ntest:*\n```\n\nauthorizedScopes are:\n\n```\nother\n```');
});

test('B4, F2: payload hashes', async () => {
  const send = (hash, headers = {}) => raw('POST', `${A}/scopes/expand`, {
    sign: root, signing: { hash }, body: '{"scopes":["a"]}', headers: { 'content-type': 'application/json; charset=utf-8', ...headers },
  });
  const hash = text => createHash('sha256').update(text).digest('base64');
  accepted(await send(hash('hawk.1.payload\napplication/json\n{"scopes":["a"]}\n')));
  for (const wrong of [hash('hawk.1.payload\napplication/json\n{}\n'), hash('hawk.1.payload\ntext/plain\n{"scopes":["a"]}\n'), 'abc', '!']) {
    unauthorized(await send(wrong), /^Invalid payload hash/);
  }
  accepted(await raw('GET', `${A}/scopes/current`, { sign: root, signing: { hash: hash('hawk.1.payload\n\n\n') } }));
});

test('B13-B14: bewits', async () => {
  const path = `${A}/scopes/current`;
  const use = (b, p = path, method = 'GET', options) => raw(method, `${p}${p.includes('?') ? '&' : '?'}bewit=${b}`, options);
  accepted(await use(bewit(path)));
  const head = await use(bewit(path), path, 'HEAD');
  assert.equal(head.status, 200);
  assert.equal(head.text, '');
  const post = `${A}/scopes/expand`;
  unauthorized(await use(bewit(post), post, 'POST', { body: { scopes: [] } }), 'Unauthorized: Invalid method');
  unauthorized(await use(bewit(path, { sign: { ...root, accessToken: 'wrong' } })), 'Unauthorized: Bad mac');
  unauthorized(await use(bewit(`${A}/clients/`)), 'Unauthorized: Bad mac');
  unauthorized(await use(bewit(path, { sign: { clientId: 'nobody', accessToken: 'x' } })), "Client with clientId 'nobody' not found");
  unauthorized(await use('aaaa'), 'Bad Request: Invalid bewit structure');
  unauthorized(await use(''), 'Unauthorized: Empty bewit');
  unauthorized(await use(bewit(path, { seconds: -10 })), 'Unauthorized: Access expired');
  unauthorized(await use(bewit(path), path, 'GET', { sign: root }), /^Cannot use two authentication schemes at once/);

  const restricted = await use(bewit(path, { sign: { ...root, authorizedScopes: ['auth:current-scopes'] } }));
  assert.ok(!restricted.json.scopes.includes('*'));
  const temporary = taskcluster.createTemporaryCredentials({ credentials: root, clientId: `bewit/${slugid()}`, expiry: taskcluster.fromNow('1 hour'), scopes: ['auth:current-scopes', 'a:b'] });
  assert.ok((await use(bewit(path, { sign: temporary }))).json.scopes.includes('a:b'));

  // Wherever it stands in the query, what was signed is the rest.
  const b = bewit(`${A}/clients/?limit=1&prefix=static`);
  for (const query of [`limit=1&prefix=static&bewit=${b}`, `bewit=${b}&limit=1&prefix=static`, `limit=1&bewit=${b}&prefix=static`]) {
    accepted(await raw('GET', `${A}/clients/?${query}`));
  }
  const hawk = await auth.authenticateHawk({ method: 'get', resource: `${path}?bewit=${bewit(path)}`, host: new URL(rootUrl).hostname, port: Number(new URL(rootUrl).port) });
  assert.equal(hawk.status, 'auth-success');
  assert.equal(hawk.scheme, 'hawk');
  assert.equal(hawk.clientId, root.clientId);
});

test('B9, B19, B23: a client that ends, changes its token or goes', async () => {
  const clientId = `ends/${slugid()}`;
  const expires = taskcluster.fromNowJSON('10 minutes');
  const made = await auth.createClient(clientId, { expires, description: '', scopes: ['auth:current-scopes'] });
  const authenticate = async credentials => {
    const { header } = (await import('hawk')).default.client.header(`${rootUrl}/x`, 'GET', {
      credentials: { id: credentials.clientId, key: credentials.accessToken, algorithm: 'sha256' },
      ext: credentials.certificate && ext({ certificate: JSON.parse(credentials.certificate) }),
    });
    const { hostname: host, port } = new URL(rootUrl);
    return auth.authenticateHawk({ method: 'get', resource: '/x', host, port: Number(port), authorization: header });
  };
  const temporary = expiry => taskcluster.createTemporaryCredentials({ credentials: made, expiry, scopes: [] });
  assert.equal((await authenticate(made)).expires, expires);
  assert.equal((await authenticate(temporary(taskcluster.fromNow('1 hour')))).expires, expires);
  const sooner = taskcluster.fromNow('5 minutes');
  assert.equal((await authenticate(temporary(sooner))).expires, sooner.toJSON());

  const fresh = await auth.resetAccessToken(clientId);
  assert.notEqual(fresh.accessToken, made.accessToken);
  assert.equal(fresh.lastRotated, fresh.lastModified);
  assert.equal((await authenticate(made)).status, 'auth-failed');
  assert.equal((await authenticate(fresh)).status, 'auth-success');
  await auth.disableClient(clientId);
  assert.match((await authenticate(fresh)).message, /^Client with clientId '.*' is disabled$/);
  await auth.enableClient(clientId);
  await auth.updateClient(clientId, { expires: taskcluster.fromNowJSON('-1 minute'), description: '' });
  assert.match((await authenticate(fresh)).message, /^Client with clientId: '.*' has expired$/);
  await auth.deleteClient(clientId);
  assert.match((await authenticate(fresh)).message, /^Client with clientId '.*' not found$/);
});
