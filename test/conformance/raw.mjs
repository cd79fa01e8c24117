// Requests as no well-behaved client sends them: paths, headers, bodies and
// signatures exactly as given.
import http from 'node:http';
import hawk from 'hawk';
import { rootUrl, root } from './common.mjs';

const address = new URL(rootUrl);

/** base64 of a JSON document (or of a text), as the ext of a signature holds it. */
export const ext = value => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64');

/** root's credentials restricted to some scopes. */
export const only = (...scopes) => ({ ...root, authorizedScopes: scopes });

function extOf({ certificate, authorizedScopes }) {
  if (!certificate && !authorizedScopes) return undefined;
  return ext({ ...(certificate && { certificate: JSON.parse(certificate) }), ...(authorizedScopes && { authorizedScopes }) });
}

/**
 * Sends one request. An object as body is sent as JSON, a string or Buffer as
 * it is. sign signs with these credentials; signing overrides what is signed
 * (host, port, and hawk's own options, like ext, hash or timestamp).
 *
 * Gives status, headers, text, and of JSON answers json, code and message (the
 * part before the trailer).
 */
export function raw(method, path, { sign, signing = {}, body, headers = {} } = {}) {
  const sent = { ...headers };
  if (body !== undefined && typeof body !== 'string' && !Buffer.isBuffer(body)) {
    body = JSON.stringify(body);
    sent['content-type'] ??= 'application/json';
  }
  if (body !== undefined) sent['content-length'] = Buffer.byteLength(body);
  if (sign) {
    const { host = address.hostname, port = address.port, ...options } = signing;
    sent.authorization = hawk.client.header(`http://${host}:${port}${path}`, method, {
      credentials: { id: sign.clientId, key: sign.accessToken, algorithm: 'sha256' }, ext: extOf(sign), ...options,
    }).header;
  }
  return new Promise((resolve, reject) => {
    const request = http.request({ host: address.hostname, port: address.port, method, path, headers: sent }, answer => {
      const chunks = [];
      answer.on('data', chunk => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const bytes = Buffer.concat(chunks);
        const text = bytes.toString();
        let json;
        try { json = JSON.parse(text); } catch { /* not JSON */ }
        resolve({
          status: answer.statusCode, headers: answer.headers, bytes, text, json,
          code: json?.code, message: json?.message?.split('\n\n---')[0],
        });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** A bewit for a path (query included), to be put into its query. */
export function bewit(path, { sign = root, seconds = 60, ext } = {}) {
  return hawk.uri.getBewit(rootUrl + path, {
    credentials: { id: sign.clientId, key: sign.accessToken, algorithm: 'sha256' }, ttlSec: seconds, ext: ext ?? extOf(sign) ?? '',
  });
}
