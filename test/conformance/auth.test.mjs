import test from 'node:test';
import assert from 'node:assert/strict';
import { auth, queue, root, rootUrl, taskcluster, slugid, refused } from './common.mjs';

const client = (credentials, options = {}) => new taskcluster.Auth({ rootUrl, credentials, retries: 0, ...options });
const hour = () => taskcluster.fromNow('1 hour');

test('ping, heartbeats and version', async () => {
  for (const service of [auth, queue]) {
    assert.equal((await service.ping()).alive, true);
    await service.heartbeat();
    await service.lbheartbeat();
    assert.ok((await service.version()).version);
  }
});

test('clients: create, get, update, reset, disable, enable, delete', async () => {
  const clientId = `test/${slugid()}`;
  const def = { expires: hour().toJSON(), description: 'a client', scopes: ['scope:b', 'scope:a*'] };
  const made = await auth.createClient(clientId, def);
  assert.equal(made.accessToken.length, 44);
  assert.deepEqual(made.scopes, def.scopes);
  const again = await auth.createClient(clientId, def);
  assert.equal(again.accessToken, made.accessToken);
  await refused(() => auth.createClient(clientId, { ...def, description: 'other' }), 409, 'RequestConflict');
  const got = await auth.client(clientId);
  assert.equal(got.accessToken, undefined);
  assert.equal(got.disabled, false);
  assert.ok(got.expandedScopes.includes('scope:a*'));

  const mine = client({ clientId, accessToken: made.accessToken });
  await refused(() => mine.client(clientId), 403, 'InsufficientScopes');
  const updated = await auth.updateClient(clientId, { ...def, scopes: ['auth:current-scopes'], description: 'new' });
  assert.equal(updated.description, 'new');
  assert.ok((await mine.currentScopes()).scopes.includes('auth:current-scopes'));

  await auth.disableClient(clientId);
  await refused(() => mine.currentScopes(), 401, 'AuthenticationFailed');
  await auth.enableClient(clientId);
  await mine.currentScopes();

  const reset = await auth.resetAccessToken(clientId);
  assert.notEqual(reset.accessToken, made.accessToken);
  await refused(() => mine.currentScopes(), 401, 'AuthenticationFailed');
  await client({ clientId, accessToken: reset.accessToken }).currentScopes();

  const history = await auth.getEntityHistory('client', clientId);
  assert.deepEqual(history.auditHistory.map(h => h.actionType), ['created', 'updated', 'client disabled', 'client enabled', 'access token reset']);
  assert.equal(history.auditHistory[0].clientId, root.clientId);

  await auth.deleteClient(clientId);
  await auth.deleteClient(clientId);
  await refused(() => auth.client(clientId), 404, 'ResourceNotFound');
});

test('clients: listing pages by prefix', async () => {
  const prefix = `list-${slugid()}/`;
  for (let i = 0; i < 5; i++) {
    await auth.createClient(`${prefix}${i}`, { expires: hour(), description: '' });
  }
  const seen = [];
  let continuationToken;
  do {
    const page = await auth.listClients({ prefix, limit: 2, ...(continuationToken ? { continuationToken } : {}) });
    assert.ok(page.clients.length <= 2);
    seen.push(...page.clients.map(c => c.clientId));
    continuationToken = page.continuationToken;
  } while (continuationToken);
  assert.deepEqual(seen, [0, 1, 2, 3, 4].map(i => `${prefix}${i}`));
  await refused(() => auth.listClients({ continuationToken: '%%%' }), 400, 'InputError');
});

test('static clients cannot be changed', async () => {
  await refused(() => auth.deleteClient('static/taskcluster/root'), 400, 'InputError');
  await refused(() => auth.createClient('static/x', { expires: hour(), description: '' }), 400, 'InputError');
});

test('scopes cannot be given by who does not hold them', async () => {
  const clientId = `test/${slugid()}`;
  const { accessToken } = await auth.createClient(clientId, { expires: hour(), description: '', scopes: ['auth:create-client:*', 'have:*'] });
  const mine = client({ clientId, accessToken });
  await mine.createClient(`test/${slugid()}`, { expires: hour(), description: '', scopes: ['have:this'] });
  const err = await refused(() => mine.createClient(`test/${slugid()}`, { expires: hour(), description: '', scopes: ['want:this'] }), 403, 'InsufficientScopes');
  assert.match(err.message, /want:this/);
  await refused(() => auth.createClient(`test/${slugid()}`, { expires: hour(), description: '', scopes: ['x**'] }), 400, 'InputError');
});

test('roles: create, get, update, expand, list, delete', async () => {
  const id = slugid();
  const roleId = `role ${id}/%:*`;
  const made = await auth.createRole(roleId, { description: 'd', scopes: [`B:<..>`, 'A'] });
  assert.deepEqual(made.scopes, ['A', 'B:<..>']);
  assert.ok(made.expandedScopes.includes(`assume:${roleId}`));
  await auth.createRole(roleId, { description: 'd', scopes: ['A', 'B:<..>'] });
  await refused(() => auth.createRole(roleId, { description: 'e', scopes: [] }), 409, 'RequestConflict');
  const { scopes } = await auth.expandScopes({ scopes: [`assume:role ${id}/%:hello`] });
  assert.deepEqual(scopes, ['A', 'B:hello', `assume:role ${id}/%:hello`].sort());
  assert.deepEqual((await auth.expandScopes({ scopes: [] })).scopes, []);
  await auth.updateRole(roleId, { description: 'd', scopes: ['C'] });
  assert.ok((await auth.listRoles()).some(r => r.roleId === roleId));
  assert.ok((await auth.listRoles2()).roles.some(r => r.roleId === roleId));
  assert.ok((await auth.listRoleIds()).roleIds.includes(roleId));
  assert.equal((await auth.listRoleIds({ limit: 1 })).roleIds.length, 1);
  for (const continuationToken of ['FOOBAR', '@@something##']) {
    await refused(() => auth.listRoles2({ continuationToken }), 400, 'InputError');
  }
  assert.equal((await auth.role(roleId)).description, 'd');
  await auth.deleteRole(roleId);
  await auth.deleteRole(roleId);
  await refused(() => auth.role(roleId), 404, 'ResourceNotFound');
});

test('roles may not depend on each other in a cycle', async () => {
  const id = slugid();
  await auth.createRole(`${id}a*`, { description: '', scopes: [`assume:${id}b<..>x`] });
  const err = await refused(() => auth.createRole(`${id}b*`, { description: '', scopes: [`assume:${id}a<..>`] }), 400, 'InputError');
  assert.match(err.message, /dependency cycles/);
  await refused(() => auth.createRole(`${id}c*`, { description: '', scopes: ['x:<..>:<..>'] }), 400, 'InputError');
  await auth.deleteRole(`${id}a*`);
});

test('testAuthenticate with permanent, temporary, named and restricted credentials', async () => {
  const tester = { clientId: 'tester', accessToken: 'no-secret' };
  const input = { clientScopes: ['test:*', 'auth:create-client:test:*'], requiredScopes: ['test:scope'] };
  const result = await client(tester).testAuthenticate(input);
  assert.equal(result.clientId, 'tester');
  assert.ok(result.scopes.includes('test:*') && result.scopes.includes('assume:anonymous'));

  const restricted = client(tester, { authorizedScopes: ['test:scope'] });
  assert.deepEqual((await restricted.testAuthenticate(input)).scopes, ['assume:anonymous', 'test:scope']);
  await refused(() => client(tester, { authorizedScopes: ['test:other'] }).testAuthenticate(input), 403, 'InsufficientScopes');
  await refused(() => client(tester, { authorizedScopes: [] }).testAuthenticate(input), 403, 'InsufficientScopes');
  await refused(() => client(tester, { authorizedScopes: ['outside'] }).testAuthenticate(input), 401, 'AuthenticationFailed');

  const temporary = taskcluster.createTemporaryCredentials({ scopes: ['test:scope'], expiry: hour(), credentials: tester });
  assert.equal((await client(temporary).testAuthenticate(input)).clientId, 'tester');
  const named = taskcluster.createTemporaryCredentials({ clientId: 'test:name', scopes: ['test:scope'], expiry: hour(), credentials: tester });
  assert.equal((await client(named).testAuthenticate(input)).clientId, 'test:name');
  await refused(() => client({ ...named, clientId: 'test:other' }).testAuthenticate(input), 401, 'AuthenticationFailed');
  const tooMuch = taskcluster.createTemporaryCredentials({ scopes: ['more:*'], expiry: hour(), credentials: tester });
  await refused(() => client(tooMuch).testAuthenticate(input), 401, 'AuthenticationFailed');
  const over = taskcluster.createTemporaryCredentials({ scopes: ['test:scope'], start: taskcluster.fromNow('-2 hours'), expiry: taskcluster.fromNow('-1 hour'), credentials: tester });
  await refused(() => client(over).testAuthenticate(input), 401, 'AuthenticationFailed');
  const none = taskcluster.createTemporaryCredentials({ scopes: [], expiry: hour(), credentials: tester });
  assert.deepEqual((await client(none).testAuthenticate({ clientScopes: [], requiredScopes: [] })).scopes, ['assume:anonymous']);

  await refused(() => client({ clientId: 'tester', accessToken: 'wrong' }).testAuthenticate(input), 401, 'AuthenticationFailed');
  await refused(() => client(undefined).testAuthenticate(input), 403, 'InsufficientScopes');
});

test('testAuthenticateGet, also through signed URLs', async () => {
  const tester = { clientId: 'tester', accessToken: 'no-secret' };
  assert.equal((await client(tester).testAuthenticateGet()).clientId, 'tester');
  const named = taskcluster.createTemporaryCredentials({ clientId: 'test:name', scopes: ['test:*'], expiry: hour(), credentials: tester });
  for (const [credentials, options, clientId] of [[tester, {}, 'tester'], [named, {}, 'test:name'], [tester, { authorizedScopes: ['test:authenticate-get'] }, 'tester']]) {
    const c = client(credentials, options);
    const url = c.buildSignedUrl(c.testAuthenticateGet);
    const r = await fetch(url);
    assert.equal(r.status, 200, await r.clone().text());
    assert.equal((await r.json()).clientId, clientId);
    assert.equal((await fetch(url.replace('bewit=', 'bewit=x'))).status, 401);
  }
  const c = client(tester);
  const expired = c.buildSignedUrl(c.testAuthenticateGet, { expiration: -10 });
  assert.equal((await fetch(expired)).status, 401);
});

test('authenticateHawk answers in one of three forms', async () => {
  const none = await auth.authenticateHawk({ method: 'get', resource: '/', host: 'localhost', port: 80 });
  assert.equal(none.status, 'no-auth');
  const failed = await auth.authenticateHawk({ method: 'get', resource: '/', host: 'localhost', port: 80, authorization: 'Hawk id="nobody", ts="1", nonce="x", mac="y"' });
  assert.equal(failed.status, 'auth-failed');
  assert.match(failed.message, /nobody/);
});

test('temporary credentials of a real client, and roles that it assumes', async () => {
  const id = slugid();
  const roleId = `team:${id}`;
  await auth.createRole(roleId, { description: '', scopes: ['auth:current-scopes', `thing:${id}`] });
  const clientId = `test/${id}`;
  const { accessToken } = await auth.createClient(clientId, { expires: hour(), description: '', scopes: [`assume:${roleId}`, `auth:create-client:${clientId}/*`] });
  const credentials = { clientId, accessToken };
  const mine = client(credentials, { authorizedScopes: [`thing:${id}`, 'auth:current-scopes'] });
  assert.ok((await mine.currentScopes()).scopes.includes(`thing:${id}`));
  const named = taskcluster.createTemporaryCredentials({ clientId: `${clientId}/named`, scopes: [`assume:${roleId}`], expiry: hour(), credentials });
  assert.ok((await client(named).currentScopes()).scopes.includes(`thing:${id}`));
  await auth.updateRole(roleId, { description: '', scopes: ['auth:current-scopes'] });
  assert.ok(!(await client(named).currentScopes()).scopes.includes(`thing:${id}`));
});

test('methods that this version does not have are not there', async () => {
  await assert.rejects(() => auth.sentryDSN('x'), err => err.statusCode === 404);
});
