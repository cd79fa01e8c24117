// Access to what others keep: to buckets, accounts and repositories. This
// deployment has been told of none, and says so; what it does with some is tested
// where there are doubles of these services.
import test from 'node:test';
import assert from 'node:assert/strict';
import { called, ownClient, refused } from './common.mjs';

const auth = await ownClient('auth'); // one of these methods is newer than the library's own list
const nobody = auth.use({ authorizedScopes: ['unrelated:scope'] });
const published = name => name in auth;

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
