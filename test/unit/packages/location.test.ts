import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentError } from '../../../src/errors.js';
import { candidates, checksumUrl, shownUrl } from '../../../src/packages/location.js';

const REF = { name: 'ratelimiting', version: '1.0', artifact: 'l3af_ratelimiting.tar.gz', repoUrl: '' };

function urlsFor(...place: Parameters<typeof candidates>): URL[] {
  return candidates(...place).map(({ url }) => url);
}

test('a package is requested for its platform first, and then for `any`', () => {
  const urls = urlsFor(REF, 'https://repo.example/l3af/', 'bookworm').map(String);
  assert.deepEqual(urls, [
    'https://repo.example/l3af/ratelimiting/1.0/bookworm/l3af_ratelimiting.tar.gz',
    'https://repo.example/l3af/ratelimiting/1.0/any/l3af_ratelimiting.tar.gz',
  ]);
});

test('a host of platform `any` makes one request', () => {
  assert.equal(urlsFor(REF, 'file:///repo', 'any').length, 1);
});

test('every part is encoded, so that no part can change the query or the path', () => {
  const [url] = urlsFor({ ...REF, name: 'a?b#c', version: '%2e%2e' }, 'http://repo.example', 'any');
  assert.equal(url?.href, 'http://repo.example/a%3Fb%23c/%252e%252e/any/l3af_ratelimiting.tar.gz');
});

test('the checksum file is next to the artifact, and an access token in the query stays', () => {
  const [url] = urlsFor(REF, 'https://repo.example/l3af?token=secret', 'any');
  assert.ok(url);
  const expected = 'https://repo.example/l3af/ratelimiting/1.0/any/l3af_ratelimiting.tar.gz.sha256?token=secret';
  assert.equal(checksumUrl(url).href, expected);
});

test('secrets of a URL are not shown', () => {
  assert.equal(shownUrl(new URL('https://user:pass@repo.example/a?token=secret#x')), 'https://repo.example/a');
});

for (const value of ['', '.', '..', 'a/b', 'a\\b', 'a\0b', 'a\nb', '\ud800']) {
  for (const field of ['name', 'version', 'artifact'] as const) {
    test(`${JSON.stringify(value)} is refused as ${field}`, () => {
      assert.throws(
        () => urlsFor({ ...REF, [field]: value }, 'http://repo.example', 'any'),
        (error) => error instanceof AgentError && error.code === 'INVALID_FIELD' && error.message.includes(field),
      );
    });
  }
}

test('without a repository the message names both settings for it', () => {
  for (const repo of [undefined, '']) {
    assert.throws(
      () => urlsFor(REF, repo, 'any'),
      (error) =>
        error instanceof AgentError &&
        error.code === 'ARTIFACT_UNREACHABLE' &&
        !error.transient &&
        /L3AF_REPO_URL.*ebpf_package_repo_url/.test(error.message),
    );
  }
});

test('other schemes are refused by name, and so is text that is no URL', () => {
  assert.throws(() => urlsFor(REF, 'ftp://repo.example', 'any'), /expected http:.*, got ftp:\/\//);
  assert.throws(() => urlsFor(REF, 'repo.example/l3af', 'any'), /is not a URL/);
});
