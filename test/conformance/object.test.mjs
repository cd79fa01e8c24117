// The object service, through the official client's own ways to upload and
// download. Runs against each artifact store.
import test from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Readable, Writable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { object, taskcluster, rootUrl, root, slugid, refused } from './common.mjs';

const projectId = 'conformance';
const hour = () => taskcluster.fromNowJSON('1 hour');
const fresh = what => `conformance/${slugid()}/${what}`;
const sha = (algorithm, data) => createHash(algorithm).update(data).digest('hex');
const hashesOf = data => ({ sha256: sha('sha256', data), sha512: sha('sha512', data) });

const upload = (name, data, more = {}) => taskcluster.upload({
  object, projectId, name, expires: hour(), contentType: 'text/plain', contentLength: data.length,
  streamFactory: async () => Readable.from(data.length ? [data] : []), retries: 0, ...more,
});

async function download(name, client = object) {
  const chunks = [];
  const contentType = await taskcluster.download({
    object: client, name, retries: 0,
    streamFactory: async () => new Writable({ write(c, _, done) { chunks.push(c); done(); } }),
  });
  return { contentType, data: Buffer.concat(chunks) };
}

const simple = async name => (await object.startDownload(name, { acceptDownloadMethods: { simple: true } })).url;

/** Begins an upload by URL. */
async function begin(name, contentType, contentLength) {
  const uploadId = slugid();
  const { uploadMethod } = await object.createUpload(name, {
    projectId, uploadId, expires: hour(), proposedUploadMethods: { putUrl: { contentType, contentLength } },
  });
  return { uploadId, ...uploadMethod.putUrl };
}

test('objects of all sizes, inline and by URL', async () => {
  for (const size of [0, 1, 8191, 8192, 3_000_001]) {
    const name = fresh(`of ${size} bytes?#%2F`);
    const data = Buffer.alloc(size, 'some text ');
    await upload(name, data);
    const got = await download(name);
    assert.equal(got.contentType, 'text/plain');
    assert.ok(got.data.equals(data), `${size} bytes`);
    const about = await object.object(name);
    assert.deepEqual(about, { projectId, expires: about.expires, hashes: { ...hashesOf(data), ...about.hashes } });
  }
});

test('a simple download serves ranges and web pages', async () => {
  const name = fresh('x');
  await upload(name, Buffer.from('0123456789'));
  const url = await simple(name);
  const part = await fetch(url, { headers: { Range: 'bytes=2-4', Origin: 'https://example.com' } });
  assert.deepEqual([part.status, await part.text(), part.headers.get('access-control-allow-origin')], [206, '234', '*']);
});

test('pages are saved, not shown', async () => {
  for (const data of [Buffer.from('<b>small</b>'), Buffer.alloc(10_000, '<b>large</b>')]) {
    const name = fresh('page.html');
    await upload(name, data, { contentType: 'text/html; charset=utf-8' });
    const res = await fetch(await simple(name));
    assert.deepEqual([res.headers.get('content-disposition'), res.headers.get('content-type')], ['attachment', 'text/html; charset=utf-8']);
  }
});

test('data that comes compressed has the hashes of what it was', async () => {
  const name = fresh('log');
  const text = Buffer.alloc(50_000, 'line of a log\n');
  const packed = gzipSync(text);
  const { uploadId, url, headers } = await begin(name, 'text/plain', packed.length);
  const res = await fetch(url, { method: 'PUT', body: packed, headers: { ...headers, 'Content-Encoding': 'gzip' } });
  assert.equal(res.status, 200);
  await object.finishUpload(name, { projectId, uploadId, hashes: hashesOf(text) });
  assert.ok((await download(name)).data.equals(text));
});

test('what arrives must be what was announced', async () => {
  const name = fresh('x');
  const { uploadId, url, headers } = await begin(name, 'text/plain', 5);
  const put = async (body, change) => (await fetch(url, { method: 'PUT', body, headers: { ...headers, ...change } })).status;
  assert.equal(await put('hello', { 'Content-Type': 'text/html' }), 403);
  assert.ok(await put('hello!', { 'Content-Length': '6' }) >= 400);
  assert.equal((await fetch(url)).status, 403); // it is not for reading
  assert.equal(await put('hello'), 200);
  await object.finishUpload(name, { projectId, uploadId, hashes: { sha256: sha('sha256', 'other') } });
  await assert.rejects(download(name), /hash does not match/);

  const bare = fresh('without hashes');
  const b = await begin(bare, 'text/plain', 5);
  assert.equal((await fetch(b.url, { method: 'PUT', body: 'hello', headers: b.headers })).status, 200);
  await object.finishUpload(bare, { projectId, uploadId: b.uploadId });
  await assert.rejects(download(bare), /No acceptable hash/);
  assert.deepEqual((await object.object(bare)).hashes, {});
});

test('calls that are repeated', async () => {
  const name = fresh('x');
  const uploadId = slugid();
  const expires = hour();
  const payload = { projectId, uploadId, expires, proposedUploadMethods: {} };
  assert.deepEqual(await object.createUpload(name, payload), { projectId, uploadId, expires, uploadMethod: {} });
  const dataInline = { contentType: 'text/plain', objectData: Buffer.from('x').toString('base64') };
  assert.deepEqual((await object.createUpload(name, { ...payload, proposedUploadMethods: { dataInline } })).uploadMethod, { dataInline: true });
  await object.createUpload(name, { ...payload, hashes: { md5: 'a' } });
  await refused(() => object.createUpload(name, { ...payload, hashes: { md5: 'b' } }), 409, 'RequestConflict');
  await refused(() => object.createUpload(name, { ...payload, uploadId: slugid() }), 409, 'RequestConflict');
  await refused(() => object.createUpload(name, { ...payload, expires: taskcluster.fromNowJSON('2 hours') }), 409, 'RequestConflict');
  await refused(() => object.finishUpload(name, { projectId, uploadId: slugid() }), 409, 'RequestConflict');
  await refused(() => object.finishUpload(name, { projectId: 'other', uploadId }), 400, 'InputError');
  await refused(() => object.object(name), 404, 'ResourceNotFound');
  await refused(() => object.download(name), 404, 'ResourceNotFound');
  await refused(() => object.startDownload(name, { acceptDownloadMethods: { simple: true } }), 404, 'ResourceNotFound');
  await object.finishUpload(name, { projectId, uploadId, hashes: { sha256: sha('sha256', 'x') } });
  await object.finishUpload(name, { projectId, uploadId, hashes: { md5: 'a' } });
  await object.finishUpload(name, { projectId, uploadId });
  await refused(() => object.finishUpload(name, { projectId, uploadId, hashes: { sha512: sha('sha512', 'x') } }), 409, 'RequestConflict');
  await refused(() => object.createUpload(name, payload), 409, 'RequestConflict');
  await refused(() => object.startDownload(name, { acceptDownloadMethods: {} }), 406, 'NoMatchingMethod');
  await refused(() => object.finishUpload(fresh('none'), { projectId, uploadId }), 404, 'ResourceNotFound');
});

test('credentials for one object', async () => {
  const name = fresh('x');
  const only = scope => new taskcluster.Object({ rootUrl, retries: 0, credentials: taskcluster.createTemporaryCredentials({
    credentials: root, scopes: [scope], start: taskcluster.fromNow('-1 minute'), expiry: taskcluster.fromNow('1 hour'),
  }) });
  const uploader = only(`object:upload:${projectId}:${name}`);
  await upload(name, Buffer.from('x'), { object: uploader });
  await refused(() => uploader.object(name), 403, 'InsufficientScopes');
  const downloader = only(`object:download:${name}`);
  assert.equal((await download(name, downloader)).data.toString(), 'x');
  await assert.rejects(upload(fresh('y'), Buffer.from('x'), { object: uploader }), err => err.statusCode === 403);
  await refused(() => downloader.object(fresh('y')), 403, 'InsufficientScopes');
});
