import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type FetchedFile, fetchFile } from '../../../src/packages/fetch.js';
import { FETCH_LIMITS, type FetchLimits } from '../../../src/packages/limits.js';
import { startPackageServer } from '../../support/package-server.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

const NEVER = new AbortController().signal;

async function fetchTo(
  t: TestContext,
  url: string | URL,
  limits: Partial<FetchLimits> = {},
  stop = NEVER,
): Promise<FetchedFile> {
  const path = join(await scratchFolder(t), 'fetched');
  return fetchFile(new URL(url), path, { limits: { ...FETCH_LIMITS, backoffMs: 1, ...limits }, stop, env: {} });
}

/** Answers each request with the next listener, and further requests with the last one. */
function inTurn(...listeners: [RequestListener, ...RequestListener[]]): RequestListener {
  let turn = 0;
  return (request, response) => {
    const listener = listeners[Math.min(turn++, listeners.length - 1)] ?? listeners[0];
    listener(request, response);
  };
}

const status =
  (code: number): RequestListener =>
  (_request, response) =>
    response.writeHead(code).end();

const body =
  (content: Buffer | string): RequestListener =>
  (_request, response) =>
    response.end(content);

test('a file is fetched and hashed', async (t) => {
  const server = await startPackageServer(t);
  const content = Buffer.alloc(1_000_000, 'content ');
  server.answer('/a', content);
  const fetched = await fetchTo(t, `${server.url}/a`);
  assert.equal(fetched.size, content.length);
  assert.equal(fetched.digest, sha256(content));
  assert.ok(content.equals(await readFile(fetched.path)));
});

test('a content encoding of the server is not decoded: the bytes are those of the file', async (t) => {
  const server = await startPackageServer(t);
  const content = gzipSync('a tar archive');
  server.answer('/a.tar.gz', (_request, response) => {
    response.writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'application/x-tar' }).end(content);
  });
  assert.equal((await fetchTo(t, `${server.url}/a.tar.gz`)).digest, sha256(content));
});

test('404 is permanent and not retried', async (t) => {
  const server = await startPackageServer(t);
  const error = await rejectsWith(fetchTo(t, `${server.url}/absent`), 'ARTIFACT_NOT_FOUND', /\/absent does not exist/);
  assert.equal(error.transient, false);
  assert.equal(server.requests.length, 1);
});

test('403 is permanent too, but does not mean that the file is absent', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', status(403));
  const error = await rejectsWith(fetchTo(t, `${server.url}/a`), 'ARTIFACT_UNREACHABLE', /answered 403 Forbidden/);
  assert.equal(error.transient, false);
  assert.equal(server.requests.length, 1);
});

test('a request is retried after a server fault', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', inTurn(status(500), body('here you are')));
  assert.equal((await fetchTo(t, `${server.url}/a`)).digest, sha256('here you are'));
  assert.equal(server.requests.length, 2);
});

test('a server that keeps failing gets three requests', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', status(503));
  const error = await rejectsWith(fetchTo(t, `${server.url}/a`), 'ARTIFACT_UNREACHABLE', /answered 503 Service/);
  assert.equal(error.transient, true);
  assert.equal(server.requests.length, 3);
});

test('a download whose connection breaks starts again, and the first half is discarded', async (t) => {
  const server = await startPackageServer(t);
  const breaks: RequestListener = (_request, response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('half of it', () => response.destroy());
  };
  server.answer('/a', inTurn(breaks, body('all of it')));
  const { path, digest } = await fetchTo(t, `${server.url}/a`);
  assert.equal(digest, sha256('all of it'));
  assert.equal(await readFile(path, 'utf8'), 'all of it');
});

test('a port without a listener is a transient fault', async (t) => {
  const closed = createServer().listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const address = closed.address();
  assert.ok(typeof address === 'object' && address !== null);
  closed.close();
  await once(closed, 'close');
  const refused = fetchTo(t, `http://127.0.0.1:${address.port}/a`);
  assert.equal((await rejectsWith(refused, 'ARTIFACT_UNREACHABLE', /ECONNREFUSED/)).transient, true);
});

test('a server without TLS is a permanent fault', async (t) => {
  const server = await startPackageServer(t);
  const refused = fetchTo(t, `${server.url.replace('http:', 'https:')}/a`);
  assert.equal((await rejectsWith(refused, 'ARTIFACT_UNREACHABLE', /cannot be fetched/)).transient, false);
});

test('a fetch fails if the server never answers', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', () => {});
  const stalled = fetchTo(t, `${server.url}/a`, { idleMs: 50, tries: 2 });
  assert.equal((await rejectsWith(stalled, 'ARTIFACT_UNREACHABLE', /sent nothing for 50 ms/)).transient, true);
  assert.equal(server.requests.length, 2);
});

test('a fetch fails if the server stops in the middle', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', (_request, response) => void response.write('and then'));
  const stalled = fetchTo(t, `${server.url}/a`, { idleMs: 50, tries: 1 });
  assert.equal((await rejectsWith(stalled, 'ARTIFACT_UNREACHABLE', /sent nothing for 50 ms/)).transient, true);
});

test('a fetch from a very slow server fails at the time limit and is not retried', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', (_request, response) => {
    const drip = setInterval(() => response.write('.'), 10);
    response.on('close', () => clearInterval(drip));
  });
  const slow = fetchTo(t, `${server.url}/a`, { totalMs: 150 });
  assert.equal((await rejectsWith(slow, 'ARTIFACT_UNREACHABLE', /not fetched within 150 ms/)).transient, true);
  assert.equal(server.requests.length, 1);
});

test('the time limit also ends the pause between two attempts', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', status(500));
  const slow = fetchTo(t, `${server.url}/a`, { totalMs: 100, backoffMs: 3_600_000 });
  await rejectsWith(slow, 'ARTIFACT_UNREACHABLE', /not fetched within 100 ms/);
});

test('a download is aborted when the agent stops', async (t) => {
  const server = await startPackageServer(t);
  const stop = new AbortController();
  server.answer('/a', () => stop.abort());
  await rejectsWith(
    fetchTo(t, `${server.url}/a`, {}, stop.signal),
    'ARTIFACT_UNREACHABLE',
    /because the agent is stopping/,
  );
});

test('redirects are followed, including relative ones', async (t) => {
  const server = await startPackageServer(t);
  const to =
    (location: string): RequestListener =>
    (_request, response) =>
      response.writeHead(302, { location }).end();
  server.answer('/a', to('/b'));
  server.answer('/b', to(`${server.url}/c`));
  server.answer('/c', 'found');
  assert.equal((await fetchTo(t, `${server.url}/a`)).digest, sha256('found'));
});

const REDIRECTS = [
  ['in a circle', '/a', /redirects more than 5 times/],
  ['to a file of this host', 'file:///etc/passwd', /redirects from http:\/\/ to file:\/\/, which is refused/],
  ['to another scheme', 'ftp://127.0.0.1/a', /expected http:.*, got ftp:\/\//],
  ['to nowhere', 'http://', /redirects to an invalid URL/],
] as const;

for (const [what, location, message] of REDIRECTS) {
  test(`a redirect ${what} is refused`, async (t) => {
    const server = await startPackageServer(t);
    server.answer('/a', (_request, response) => response.writeHead(301, { location }).end());
    const code = what === 'to another scheme' ? 'UNSUPPORTED' : 'ARTIFACT_UNREACHABLE';
    await rejectsWith(fetchTo(t, `${server.url}/a`), code, message);
  });
}

test('a file is not fetched if its announced size is too large', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', (_request, response) => response.writeHead(200, { 'content-length': 10 ** 12 }).flushHeaders());
  const refused = fetchTo(t, `${server.url}/a`, { maxBytes: 1000 });
  await rejectsWith(refused, 'ARTIFACT_TOO_LARGE', /has 1000000000000 bytes; at most 1000/);
});

test('a download is aborted when it becomes too large', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', (_request, response) => {
    const more = () => response.write(Buffer.alloc(65_536), (error) => error ?? more());
    more();
  });
  const refused = fetchTo(t, `${server.url}/a`, { maxBytes: 200_000 });
  await rejectsWith(refused, 'ARTIFACT_TOO_LARGE', /more than 200000 bytes/);
  assert.equal(server.requests.length, 1);
});

test('messages contain no secrets from a URL', async (t) => {
  const server = await startPackageServer(t);
  const url = `${server.url.replace('//', '//user:word@')}/absent?token=secret`;
  const error = await rejectsWith(fetchTo(t, url), 'ARTIFACT_NOT_FOUND', /absent does not exist/);
  assert.doesNotMatch(error.message, /user|word|token|secret/);
});

test('a file:// URL is fetched like any other', async (t) => {
  const path = join(await scratchFolder(t), 'a file');
  await writeFile(path, 'content');
  assert.equal((await fetchTo(t, pathToFileURL(path))).digest, sha256('content'));
  await rejectsWith(fetchTo(t, pathToFileURL(path), { maxBytes: 3 }), 'ARTIFACT_TOO_LARGE', /more than 3 bytes/);
  await rejectsWith(fetchTo(t, pathToFileURL(`${path}-no`)), 'ARTIFACT_NOT_FOUND', /a%20file-no does not exist/);
  await rejectsWith(fetchTo(t, pathToFileURL(`${path}/no`)), 'ARTIFACT_NOT_FOUND', /does not exist/);
});

test('a file:// URL of a folder, a FIFO or another host is refused', async (t) => {
  const scratch = await scratchFolder(t);
  await mkdir(join(scratch, 'folder'));
  execFileSync('mkfifo', [join(scratch, 'fifo')]);
  for (const name of ['folder', 'fifo']) {
    await rejectsWith(fetchTo(t, pathToFileURL(join(scratch, name))), 'ARTIFACT_INVALID', /is not a regular file/);
  }
  await rejectsWith(fetchTo(t, 'file://elsewhere/a'), 'INVALID_FIELD', /does not name a file on this host/);
});
