// Access to what others keep: to buckets, accounts and repositories. This
// deployment has been told of none, and says so; what it does with some is tested
// where there are doubles of these services.
import test from 'node:test';
import assert from 'node:assert/strict';
import { auth, called, refused, rootUrl, taskcluster, root } from './common.mjs';

const { entries } = await (await fetch(`${rootUrl}/references/auth/v1/api.json`)).json();
const published = name => entries.some(e => e.name === name);

const unconfigured = [
  ['awsS3Credentials', 'read-write', 'some-bucket', 'some/prefix/'],
  ['azureTables', 'someaccount'],
  ['azureTableSAS', 'someaccount', 'sometable', 'read-only'],
  ['azureContainers', 'someaccount'],
  ['azureContainerSAS', 'someaccount', 'somecontainer', 'read-write'],
  ['sentryDSN', 'some-project'],
  ['gcpCredentials', '-', 'some@example.com'],
  ['websocktunnelToken', 'some-audience', 'some-client'],
  ['githubRepoToken', 'some-app', 'some-owner', { repositories: ['some-repo'], permissions: { contents: 'read' } }],
];
const nobody = new taskcluster.Auth({ rootUrl, credentials: root, authorizedScopes: ['unrelated:scope'], retries: 0 });

for (const [name, ...args] of unconfigured) {
  test(`${name}: not here`, { skip: !published(name) && 'not published' }, async () => {
    await refused(() => nobody[name](...args), 403, 'InsufficientScopes');
    await refused(() => auth[name](...args), 404, 'ResourceNotFound');
    called('auth', name);
  });
}

test('azureAccounts: none', { skip: !published('azureAccounts') && 'not published' }, async () => {
  assert.deepEqual((await auth.azureAccounts()).accounts, []);
});
