import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PackageCache, type PackageCacheOptions } from '../../../src/packages/cache.js';
import { fetchFile } from '../../../src/packages/fetch.js';
import { generateKeys, readTrustedKeys } from '../../../src/packages/keys.js';
import { FETCH_LIMITS } from '../../../src/packages/limits.js';
import { tarGz } from '../../support/archives.js';
import { type PackageServer, startPackageServer, startTlsServer } from '../../support/package-server.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

/*
 * A hostile repository, or a man in the middle, whose answers could mislead the agent.
 */

const REF = { name: 'ratelimiting', version: '1.0', artifact: 'l3af.tar.gz', repoUrl: '' };
const PATH = '/ratelimiting/1.0/bookworm/l3af.tar.gz';
const ARCHIVE = tarGz([{ path: 'l3af/ratelimiting.bpf.o', content: 'object' }]);
const DIGEST = sha256(ARCHIVE);
const OTHER = sha256('other');
const TRUSTED = generateKeys().publicKey;

async function givenPackage(t: TestContext, beside: string, answer: string | RequestListener): Promise<PackageServer> {
  const server = await startPackageServer(t);
  server.answer(PATH, ARCHIVE);
  server.answer(`${PATH}${beside}`, answer);
  return server;
}

async function cacheOf(t: TestContext, repoUrl: string, options: Partial<PackageCacheOptions> = {}) {
  const fetch = { backoffMs: 1, tries: 1, idleMs: 2000 };
  const dir = await scratchFolder(t);
  const cache = new PackageCache({ dir, repoUrl, platform: 'bookworm', fetch, env: {}, ...options });
  await cache.open();
  t.after(() => cache.close());
  return cache;
}

async function checking(t: TestContext, repoUrl: string): Promise<PackageCache> {
  const signatures = { policy: 'if-present', keys: await readTrustedKeys([TRUSTED]) } as const;
  return cacheOf(t, repoUrl, { signatures });
}

const status =
  (code: number): RequestListener =>
  (_request, response) =>
    response.writeHead(code).end();

const ABSENT = [404, 410];

for (const code of ABSENT) {
  test(`a signature that is answered with ${code} is absent`, async (t) => {
    const server = await givenPackage(t, '.sig', status(code));
    await (await checking(t, server.url)).ensure(REF);
  });
}

const PRESENT: readonly [what: string, answer: string | RequestListener, code: Parameters<typeof rejectsWith>[1]][] = [
  ['is answered with 204', status(204), 'ARTIFACT_UNREACHABLE'],
  ['is answered with 206', status(206), 'ARTIFACT_UNREACHABLE'],
  ['is answered with 304', status(304), 'ARTIFACT_UNREACHABLE'],
  ['is answered with 401', status(401), 'ARTIFACT_UNREACHABLE'],
  ['is answered with 403', status(403), 'ARTIFACT_UNREACHABLE'],
  ['is answered with 429', status(429), 'ARTIFACT_UNREACHABLE'],
  ['is answered with 500', status(500), 'ARTIFACT_UNREACHABLE'],
  ['never comes', () => {}, 'ARTIFACT_UNREACHABLE'],
  ['breaks off', (_request, response) => response.write('AAAA', () => response.destroy()), 'ARTIFACT_UNREACHABLE'],
  [
    'is sent to nowhere',
    (_request, response) => response.writeHead(302, { location: '' }).end(),
    'ARTIFACT_UNREACHABLE',
  ],
  ['is empty', '', 'SIGNATURE_INVALID'],
  ['is a web page', '<html>there is nothing here</html>', 'SIGNATURE_INVALID'],
  ['is without end', (_request, response) => void response.end(Buffer.alloc(1_000_000)), 'ARTIFACT_TOO_LARGE'],
];

for (const [what, answer, code] of PRESENT) {
  test(`a signature that ${what} does not count as absent`, async (t) => {
    const server = await givenPackage(t, '.sig', answer);
    await rejectsWith((await checking(t, server.url)).ensure(REF), code, /sig/);
  });
}

const CHECKSUMS: readonly [what: string, content: string][] = [
  ['of `sha256sum --tag`', `SHA256 (l3af.tar.gz) = ${DIGEST}\n`],
  ['of `openssl dgst -r`', `${DIGEST} *l3af.tar.gz\n`],
  ['of `openssl dgst`', `SHA2-256(dist/l3af.tar.gz)= ${DIGEST}\n`],
  ['with lines that end as on Windows', `\uFEFF${OTHER}  other\r\n${DIGEST.toUpperCase()}  l3af.tar.gz\r\n`],
  ['with the same digest twice', `${DIGEST}  l3af.tar.gz\n${DIGEST} *dist/l3af.tar.gz\n`],
];

for (const [what, content] of CHECKSUMS) {
  test(`a checksum file ${what} is accepted`, async (t) => {
    const server = await givenPackage(t, '.sha256', content);
    await (await cacheOf(t, server.url)).ensure(REF);
    const wrong = await givenPackage(t, '.sha256', content.replace(new RegExp(DIGEST, 'gi'), sha256('meant')));
    await rejectsWith((await cacheOf(t, wrong.url)).ensure(REF), 'DIGEST_MISMATCH', /says sha256/);
  });
}

const UNCLEAR: readonly [what: string, content: string, message: RegExp][] = [
  ['with two digests for one name', `${DIGEST}  l3af.tar.gz\n${OTHER}  old/l3af.tar.gz\n`, /more than one SHA-256/],
  ['with two bare digests', `${DIGEST}\n${OTHER}\n`, /holds no SHA-256/],
  ['with a digest of another kind', `MD5 (l3af.tar.gz) = ${DIGEST.slice(0, 32)}\n`, /holds no SHA-256/],
  ['with a name that only has the same ending', `${DIGEST}  xl3af.tar.gz\n`, /holds no SHA-256/],
  ['with a digest that is too long', `${DIGEST}0  l3af.tar.gz\n`, /holds no SHA-256/],
];

for (const [what, content, message] of UNCLEAR) {
  test(`a checksum file ${what} is refused`, async (t) => {
    const server = await givenPackage(t, '.sha256', content);
    await rejectsWith((await cacheOf(t, server.url)).ensure(REF), 'ARTIFACT_INVALID', message);
  });
}

/** The credentials in the requests that a web server gets. */
async function startGuarded(t: TestContext, answer: RequestListener) {
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

async function fetched(t: TestContext, url: string, env: Record<string, string> = {}, caFile?: string) {
  const limits = { ...FETCH_LIMITS, tries: 1, idleMs: 2000 };
  const path = join(await scratchFolder(t), 'fetched');
  return fetchFile(new URL(url), path, { limits, stop: new AbortController().signal, env, caFile });
}

test('user and password are sent only to their own host, not to the target of a redirect', async (t) => {
  const target = await startGuarded(t, (_request, response) => response.end('content'));
  const first = await startGuarded(t, (request, response) => {
    const location = request.url === '/a' ? '/b' : `http://${target.host}/c`;
    response.writeHead(302, { location }).end();
  });
  await fetched(t, `http://user:wo%2Frd@${first.host}/a`);
  const basic = (user: string) => `Basic ${Buffer.from(user).toString('base64')}`;
  assert.deepEqual(first.seen, [basic('user:wo/rd'), basic('user:wo/rd')]);
  assert.deepEqual(target.seen, [undefined]);

  await fetched(t, `http://:token@${target.host}/c`);
  assert.deepEqual(target.seen, [undefined, basic(':token')]);
});

const RAW_ANSWERS: readonly [what: string, answer: string, message: RegExp][] = [
  ['that switches protocols', 'HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n', /without an answer/],
  [
    'that sends interim responses without end',
    'HTTP/1.1 100 Continue\r\n\r\n'.repeat(1000),
    /sent nothing for 2000 ms/,
  ],
  ['whose header has no end', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(20_000)}`, /HPE_HEADER_OVERFLOW/],
  [
    'of two lengths',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc',
    /HPE_UNEXPECTED_CONTENT_LENGTH/,
  ],
  ['of a length that cannot be', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n', /HPE_INVALID_CONTENT_LENGTH/],
  ['in another language', 'SSH-2.0-x\r\n', /HPE_INVALID_CONSTANT/],
];

for (const [what, answer, message] of RAW_ANSWERS) {
  test(`a fetch fails on an answer ${what}`, async (t) => {
    const sockets: Socket[] = [];
    const server = createTcpServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => {});
      socket.once('data', () => socket.write(answer));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/a`;
    await rejectsWith(fetched(t, url), 'ARTIFACT_UNREACHABLE', message);
  });
}

test('the time limit also holds for a source that ignores the abort signal', async (t) => {
  const path = join(await scratchFolder(t), 'fetched');
  const limits = { ...FETCH_LIMITS, totalMs: 50 };
  const objects = { open: () => new Promise<never>(() => {}) };
  // Keeps the process alive, since the test has no other open handles.
  const awake = setInterval(() => {}, 1000);
  t.after(() => clearInterval(awake));
  const stuck = fetchFile(new URL('nats://B/a'), path, { limits, stop: new AbortController().signal, objects });
  await rejectsWith(stuck, 'ARTIFACT_UNREACHABLE', /not fetched within 50 ms/);
});

test('a redirect to NATS is refused, and no proxy is asked', async (t) => {
  let asked = 0;
  const proxy = createTcpServer((socket) => {
    asked++;
    socket.destroy();
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => proxy.close());
  const server = await startGuarded(t, (_request, response) =>
    response.writeHead(302, { location: 'nats://B/x' }).end(),
  );
  const env = { HTTPS_PROXY: `127.0.0.1:${(proxy.address() as AddressInfo).port}` };
  await rejectsWith(
    fetched(t, `http://${server.host}/a`, env),
    'ARTIFACT_UNREACHABLE',
    /redirects from http:\/\/ to nats:\/\/, which is refused/,
  );
  assert.equal(asked, 0);
});

test('a file requested by https is never fetched by http, even after several redirects', async (t) => {
  const plain = await startGuarded(t, (request, response) => {
    if (request.url === '/up') response.writeHead(302, { location: secure.url }).end();
    else response.end('content');
  });
  const secure = await startTlsServer(t, (_request, response) =>
    response.writeHead(302, { location: `http://${plain.host}/down` }).end(),
  );
  for (const url of [secure.url, `http://${plain.host}/up`]) {
    const refused = fetched(t, url, {}, secure.caFile);
    await rejectsWith(refused, 'ARTIFACT_UNREACHABLE', /redirects from https:\/\/ to http:\/\/, which is refused/);
  }
  assert.equal(plain.seen.length, 1);
});
