import test from 'node:test';
import assert from 'node:assert/strict';
import { purgeCache, root, rootUrl, slugid, taskcluster, refused } from './common.mjs';
import { raw } from './raw.mjs';

const freshPool = () => `conformance/p${slugid().slice(0, 20)}`;
const named = ({ requests }) => requests.map(r => r.cacheName);
const asClient = (...authorizedScopes) => new taskcluster.PurgeCache({ rootUrl, credentials: root, authorizedScopes, retries: 0 });

test('monitoring', async () => {
  assert.equal((await purgeCache.ping()).alive, true);
  await purgeCache.lbheartbeat();
  await purgeCache.heartbeat();
  assert.ok((await purgeCache.version()).version);
});

test('a request, and its repetition', async () => {
  const pool = freshPool();
  const [provisionerId, workerType] = pool.split('/');
  assert.deepEqual(await purgeCache.purgeRequests(pool), { requests: [] });
  const began = Date.now();
  assert.equal(await purgeCache.purgeCache(pool, { cacheName: 'one' }), undefined);
  const { requests: [one] } = await purgeCache.purgeRequests(pool);
  assert.deepEqual(one, { provisionerId, workerType, cacheName: 'one', before: one.before });
  assert.ok(Date.parse(one.before) >= began - 1000 && Date.parse(one.before) <= Date.now() + 1000, one.before);
  await new Promise(resolve => setTimeout(resolve, 5));
  await purgeCache.purgeCache(pool, { cacheName: 'two' });
  await purgeCache.purgeCache(pool, { cacheName: 'one' });
  const { requests } = await purgeCache.purgeRequests(pool);
  assert.deepEqual(named({ requests }), ['one', 'two']);
  assert.ok(requests[0].before > one.before);
});

test('since: inclusive, and whatever JavaScript writes', async () => {
  const pool = freshPool();
  await purgeCache.purgeCache(pool, { cacheName: 'one' });
  const { requests: [{ before }] } = await purgeCache.purgeRequests(pool);
  const at = new Date(before);
  const later = new Date(at.getTime() + 2000);
  assert.deepEqual(named(await purgeCache.purgeRequests(pool, { since: before })), ['one']);
  assert.deepEqual(named(await purgeCache.purgeRequests(pool, { since: new Date(at.getTime() + 1).toJSON() })), []);
  for (const write of [d => d.toString(), d => d.toUTCString(), d => d.toISOString(), d => `${d}`]) {
    assert.deepEqual(named(await purgeCache.purgeRequests(pool, { since: write(at) })), ['one'], write(at));
    assert.deepEqual(named(await purgeCache.purgeRequests(pool, { since: write(later) })), [], write(later));
  }
  for (const since of ['nonsense', new Date(0).toJSON()]) {
    const err = await refused(() => purgeCache.purgeRequests(pool, { since }), 400, 'InvalidRequestArguments');
    assert.match(err.message, /Invalid Date/);
  }
});

test('all requests, in pages', async () => {
  const pool = freshPool();
  for (const cacheName of ['c', 'a', 'b']) await purgeCache.purgeCache(pool, { cacheName });
  const all = [];
  let continuationToken;
  do {
    const page = await purgeCache.allPurgeRequests({ limit: 2, ...(continuationToken && { continuationToken }) });
    assert.ok(page.requests.length <= 2);
    all.push(...page.requests);
    continuationToken = page.continuationToken;
  } while (continuationToken);
  assert.deepEqual(all.filter(r => `${r.provisionerId}/${r.workerType}` === pool).map(r => r.cacheName), ['a', 'b', 'c']);
  await refused(() => purgeCache.allPurgeRequests({ continuationToken: 'no-token' }), 400, 'InputError');
});

test('what is refused', async () => {
  const pool = freshPool();
  await refused(() => purgeCache.purgeCache('list', { cacheName: 'x' }), 400, 'InvalidRequestArguments');
  await refused(() => purgeCache.purgeCache(`${pool}/more`, { cacheName: 'x' }), 400, 'InvalidRequestArguments');
  await refused(() => purgeCache.purgeCache(pool, {}), 400, 'InputValidationError');
  await refused(() => purgeCache.purgeCache(pool, { cacheName: 'x'.repeat(2501) }), 400, 'InputError');
  await refused(() => asClient(`purge-cache:${pool}:other`).purgeCache(pool, { cacheName: 'x' }), 403, 'InsufficientScopes');
  await asClient(`purge-cache:${pool}:x`).purgeCache(pool, { cacheName: 'x' });
  await refused(() => asClient(`purge-cache:purge-requests:${pool}`).purgeRequests(pool), 403, 'InsufficientScopes');
  assert.deepEqual(named(await asClient(`purge-cache:purge-requests::${pool}`).purgeRequests(pool)), ['x']);
});

test('the slash of a pool may be encoded or not', async () => {
  const pool = freshPool();
  await purgeCache.purgeCache(pool, { cacheName: 'x' });
  for (const path of [pool, encodeURIComponent(pool)]) {
    const r = await raw('GET', `/api/purge-cache/v1/purge-cache/${path}`, { sign: root });
    assert.deepEqual(named(r.json), ['x']);
  }
});
