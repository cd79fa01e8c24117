// Clients and roles: who may give which scopes to whom, and what they amount to.
import test from 'node:test';
import assert from 'node:assert/strict';
import { auth, rootUrl, slugid, taskcluster, refused } from './common.mjs';
import { raw, only } from './raw.mjs';

const A = '/api/auth/v1';
const later = taskcluster.fromNowJSON('1 hour');
const text = { description: '', expires: later };
const as = (...scopes) => {
  const { clientId, accessToken } = only();
  return new taskcluster.Auth({ rootUrl, credentials: { clientId, accessToken }, authorizedScopes: scopes, retries: 0 });
};

test('B15, B17, B18, B20, B21: clients', async () => {
  const id = `grants/${slugid()}`;
  const made = await auth.createClient(id, text);
  assert.deepEqual(made.scopes, []);
  assert.deepEqual(await auth.createClient(id, text), made);
  await refused(() => auth.createClient(id, { ...text, description: 'other' }), 409, 'RequestConflict');
  const all = await Promise.all(Array.from({ length: 8 }, () => auth.createClient(id, text)));
  assert.ok(all.every(c => c.accessToken === made.accessToken));
  const { accessToken, ...shown } = made;
  assert.deepEqual(await auth.client(id), shown);

  const scopes = ['b:c', 'a:b'];
  await auth.updateClient(id, { ...text, scopes });
  const kept = await auth.updateClient(id, { ...text, description: 'new' });
  assert.deepEqual(kept.scopes, scopes);
  assert.equal(kept.lastRotated, made.lastRotated);
  assert.deepEqual((await auth.updateClient(id, { ...text, scopes: [] })).scopes, []);
  for (const verb of ['createClient', 'updateClient']) {
    const err = await refused(() => auth[verb](id, { ...text, scopes: ['a**'] }), 400, 'InputError');
    assert.match(err.message, /^scopes must not end with `\*\*`/);
  }
  // Among what it has, identity counts: a:b* is not a:b.
  await auth.updateClient(id, { ...text, scopes: ['a:*'] });
  await refused(() => as(`auth:update-client:${id}`).updateClient(id, { ...text, scopes: ['a:b'] }), 403, 'InsufficientScopes');
  await as(`auth:update-client:${id}`, 'a:b').updateClient(id, { ...text, scopes: ['a:b'] });
});

test('B22: what is missing or static', async () => {
  const id = `grants/${slugid()}`;
  assert.equal((await raw('DELETE', `${A}/clients/${encodeURIComponent(id)}`, { sign: only('*') })).status, 204);
  for (const call of [() => auth.client(id), () => auth.updateClient(id, text), () => auth.resetAccessToken(id), () => auth.enableClient(id), () => auth.disableClient(id)]) {
    await refused(call, 404, 'ResourceNotFound');
  }
  const fixed = 'static/taskcluster/root';
  for (const call of [a => a.resetAccessToken(fixed), a => a.enableClient(fixed), a => a.disableClient(fixed), a => a.deleteClient(fixed)]) {
    const err = await refused(() => call(auth), 400, 'InputError');
    assert.match(err.message, /^clientId "static\/taskcluster\/root" starts with "static\/" which is reserved for statically configured clients\. Contact your administrator to change static clients\./);
    await refused(() => call(as()), 403, 'InsufficientScopes');
  }
  for (const verb of ['createClient', 'updateClient']) await refused(() => as()[verb](fixed, text), 400, 'InputError');
});

test('B24, B27: prefixes are text; the history of a client', async () => {
  const id = `grants/${slugid()}`;
  await auth.createClient(id, text);
  await auth.createClient(`${id}x`, text);
  await auth.createClient(`${id}/y`, text);
  assert.deepEqual((await auth.listClients({ prefix: id })).clients.map(c => c.clientId).sort(), [id, `${id}/y`, `${id}x`].sort());
  await auth.updateClient(id, text);
  const { auditHistory } = await auth.getEntityHistory('client', id);
  assert.deepEqual(auditHistory.map(h => [h.actionType, h.entityType, h.entityId]), [['created', 'client', id], ['updated', 'client', id]]);
  const first = await auth.getEntityHistory('client', id, { limit: 1 });
  assert.deepEqual(first.auditHistory, auditHistory.slice(0, 1));
  const second = await auth.getEntityHistory('client', id, { limit: 1, continuationToken: first.continuationToken });
  assert.deepEqual(second.auditHistory, auditHistory.slice(1));
});

test('B29: an identity provider can give what it has, and anybody may take away', async () => {
  const id = `grants/${slugid()}`;
  const provider = as(`auth:create-client:${id}`, `auth:update-client:${id}`, 'a:*');
  await refused(() => provider.createClient(id, { ...text, scopes: ['a:b', 'b:c'] }), 403, 'InsufficientScopes');
  await provider.createClient(id, { ...text, scopes: ['a:b', 'a:c'] });
  await as(`auth:update-client:${id}`).updateClient(id, { ...text, scopes: ['a:c'] });
  assert.deepEqual((await auth.client(id)).scopes, ['a:c']);
});

test('B30, B33: createRole again, at once, and with any printable name', async () => {
  const id = `grants:${slugid()} %2F/*%`;
  const role = { description: '', scopes: ['b', 'a'] };
  const made = await Promise.all(Array.from({ length: 8 }, () => auth.createRole(id, role)));
  for (const r of made) assert.deepEqual(r, made[0]);
  assert.deepEqual(made[0].scopes, ['a', 'b']);
  assert.deepEqual(await auth.role(id), made[0]);
  assert.deepEqual(await auth.createRole(id, { ...role, scopes: ['a', 'b'] }), made[0]);
  await refused(() => auth.createRole(id, { ...role, description: 'other' }), 409, 'RequestConflict');
  await refused(() => auth.createRole(id, { ...role, scopes: ['a'] }), 409, 'RequestConflict');
  assert.equal((await auth.listRoleIds()).roleIds.filter(r => r === id).length, 1);
  await auth.deleteRole(id);
  await auth.deleteRole(id);
  await refused(() => auth.role(id), 404, 'ResourceNotFound');
});

test('B31: cycles, also through parameters', async () => {
  const t = `grants:${slugid()}`;
  const role = (...scopes) => ({ description: '', scopes });
  await auth.createRole(`${t}:test*`, role(`assume:${t}:other<..>x`));
  const err = await refused(() => auth.createRole(`${t}:other*`, role(`assume:${t}:te<..>`)), 400, 'InputError');
  assert.match(err.message, /^Roles may not contain dependency cycles, found: 'assume:.*' -> 'assume:.*' -> 'assume:/);
  await refused(() => auth.createRole(`${t}:self`, role(`assume:${t}:self`)), 400, 'InputError');
  await auth.createRole(`${t}-1:*`, role(`assume:${t}-2:prefix-<..>/some-suffix`));
  await auth.createRole(`${t}-2:*`, role());
  await refused(() => auth.updateRole(`${t}-2:*`, role(`assume:${t}-1:prefix/<..>#some-suffix`)), 400, 'InputError');
  await refused(() => auth.createRole(`${t}:p*`, role('a:<..>:<..>')), 400, 'InputError');
  await refused(() => auth.createRole(`${t}:p*`, role('a:*<..>')), 400, 'InputError');
  await auth.createRole(`${t}:p`, role('a:<..>:<..>')); // no parameter without the star
});

test('B32: updateRole asks only for what the role did not amount to', async () => {
  const t = `grants:${slugid()}`;
  await auth.createRole(`${t}:base`, { description: '', scopes: ['deep:*'] });
  await auth.createRole(`${t}:role`, { description: '', scopes: [`assume:${t}:base`, 'own:a'] });
  const me = as(`auth:update-role:${t}:role`);
  const update = (...scopes) => me.updateRole(`${t}:role`, { description: '', scopes });
  await update(`assume:${t}:base`, 'deep:x', 'deep:*'); // own:a is gone, deep:… is not new
  await refused(() => update(`assume:${t}:base`, 'own:a'), 403, 'InsufficientScopes');
  await as(`auth:update-role:${t}:role`, 'own:*').updateRole(`${t}:role`, { description: '', scopes: ['own:b', 'own:a'] });
  const { scopes, expandedScopes } = await auth.role(`${t}:role`);
  assert.deepEqual(scopes, ['own:b', 'own:a']);
  assert.deepEqual(expandedScopes, [`assume:${t}:role`, 'own:a', 'own:b']);
});

test('B25, B36-B38: expansion', async () => {
  const t = `grants:${slugid()}`;
  await auth.createRole(`${t}:admin:*`, { description: '', scopes: [`assume:${t}:manage:project-<..>/*`] });
  await auth.createRole(`${t}:manage:*`, { description: '', scopes: [`${t}:create:<..>`] });
  const expand = async (...scopes) => (await auth.expandScopes({ scopes })).scopes.filter(s => s.includes(':create:'));
  assert.deepEqual((await auth.expandScopes({ scopes: [] })).scopes, []);
  assert.deepEqual(await expand(`assume:${t}:admin:proj1`), [`${t}:create:project-proj1/*`]);
  assert.deepEqual(await expand(`assume:${t}:admin:proj*`), [`${t}:create:project-proj*`]);
  assert.deepEqual(await expand(`assume:${t}:adm*`), [`${t}:create:project-*`]);
  for (const all of ['a*', 'assume*', 'assume:*']) assert.ok((await expand(all)).includes(`${t}:create:*`), all);
  assert.deepEqual((await auth.expandScopes({ scopes: ['*'] })).scopes, ['*']);
  assert.deepEqual((await auth.expandScopes({ scopes: ['b', 'a(', 'aa', 'x', 'x*', 'a', 'xy'] })).scopes, ['a', 'a(', 'aa', 'b', 'x*']);
  await refused(() => auth.expandScopes({ scopes: ['b', 'b'] }), 400, 'InputValidationError');
});
