import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type FetchedFile, fetchFile } from '../../../src/packages/fetch.js';
import { FETCH_LIMITS } from '../../../src/packages/limits.js';
import { proxyFor } from '../../../src/packages/proxy.js';
import { startPackageServer, startTlsServer } from '../../support/package-server.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

interface Way {
  readonly env?: Readonly<Record<string, string>>;
  readonly caFile?: string;
}

async function fetchBy(t: TestContext, url: string, { env = {}, caFile }: Way): Promise<FetchedFile> {
  const path = join(await scratchFolder(t), 'fetched');
  const limits = { ...FETCH_LIMITS, tries: 1, idleMs: 5000 };
  return fetchFile(new URL(url), path, { limits, stop: new AbortController().signal, env, caFile });
}

async function listen(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A proxy that records the requests and their authorization. */
async function startProxy(t: TestContext, refusal?: number) {
  const asked: string[] = [];
  const note = ({ method, url, headers }: IncomingMessage) =>
    asked.push([method, url, headers['proxy-authorization']].filter(Boolean).join(' '));
  const proxy = createServer((incoming, outgoing) => {
    note(incoming);
    request(incoming.url ?? '', (answer) => answer.pipe(outgoing)).end();
  });
  proxy.on('connect', (incoming: IncomingMessage, socket: Socket) => {
    note(incoming);
    if (refusal === undefined) joined(socket, Number(incoming.url?.split(':')[1]));
    else socket.end(`HTTP/1.1 ${refusal} No\r\n\r\n`);
  });
  return { address: `127.0.0.1:${await listen(t, proxy)}`, asked };
}

function joined(socket: Socket, port: number): void {
  const target = connect(port, '127.0.0.1', () => {
    socket.write('HTTP/1.1 200 Yes\r\n\r\n');
    target.pipe(socket).pipe(target);
  });
  for (const end of [target, socket]) end.on('error', () => {});
}

test('http uses the proxy in the environment, with its user', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a?b=c', 'content');
  const proxy = await startProxy(t);
  const env = { HTTP_PROXY: `http://user:word@${proxy.address}` };
  assert.equal((await fetchBy(t, `${server.url}/a?b=c`, { env })).digest, sha256('content'));
  assert.deepEqual(proxy.asked, [`GET ${server.url}/a?b=c Basic ${Buffer.from('user:word').toString('base64')}`]);
});

test('hosts in NO_PROXY are fetched without a proxy', async (t) => {
  const server = await startPackageServer(t);
  server.answer('/a', 'content');
  const env = { HTTP_PROXY: 'http://127.0.0.1:9', NO_PROXY: 'example.org,127.0.0.1' };
  assert.equal((await fetchBy(t, `${server.url}/a`, { env })).digest, sha256('content'));
});

test('https is verified with the configured CA, also end to end through a proxy', async (t) => {
  const server = await startTlsServer(t, (_request, response) => response.end('secure'));
  const proxy = await startProxy(t);
  const { caFile } = server;
  assert.equal((await fetchBy(t, server.url, { caFile })).digest, sha256('secure'));
  const env = { HTTPS_PROXY: proxy.address };
  assert.equal((await fetchBy(t, server.url, { caFile, env })).digest, sha256('secure'));
  assert.deepEqual(proxy.asked, [`CONNECT localhost:${server.port}`]);
});

test('a certificate of an unknown CA or for another name is a permanent fault, also through a proxy', async (t) => {
  const server = await startTlsServer(t, (_request, response) => response.end('secure'));
  const env = { HTTPS_PROXY: (await startProxy(t)).address };
  const { caFile } = server;
  const elsewhere = server.url.replace('localhost', '127.0.0.1');
  for (const way of [{}, { env }]) {
    const unknown = await rejectsWith(fetchBy(t, server.url, way), 'ARTIFACT_UNREACHABLE', /SELF_SIGNED/);
    const misnamed = await rejectsWith(fetchBy(t, elsewhere, { ...way, caFile }), 'ARTIFACT_UNREACHABLE', /ALTNAME/);
    assert.deepEqual([unknown.transient, misnamed.transient], [false, false]);
  }
});

test('a CA file that cannot be read is a configuration fault', async (t) => {
  const server = await startTlsServer(t, (_request, response) => response.end('secure'));
  const refused = fetchBy(t, server.url, { caFile: `${server.caFile}-absent` });
  await rejectsWith(refused, 'CONFIG_INVALID', /authorities .* cannot be read/);
});

test('the message names a proxy that refuses, and a failing proxy is a transient fault', async (t) => {
  for (const [status, transient] of [[403, false] as const, [502, true] as const]) {
    const env = { HTTPS_PROXY: (await startProxy(t, status)).address };
    const refused = fetchBy(t, 'https://localhost:1/a', { env });
    const error = await rejectsWith(refused, 'ARTIFACT_UNREACHABLE', new RegExp(`proxy .* refuses .*HTTP ${status}`));
    assert.equal(error.transient, transient);
  }
});

const CHOICES: readonly [url: string, env: Record<string, string>, proxy: string | undefined][] = [
  ['http://a.example/', { HTTP_PROXY: 'p:1', HTTPS_PROXY: 'q:2' }, 'http://p:1/'],
  ['https://a.example/', { HTTP_PROXY: 'p:1', HTTPS_PROXY: 'q:2' }, 'http://q:2/'],
  ['https://a.example/', { HTTPS_PROXY: 'q:2', https_proxy: 'r:3' }, 'http://r:3/'],
  ['https://a.example/', { HTTPS_PROXY: 'https://q:2' }, 'https://q:2/'],
  ['https://a.example/', { HTTPS_PROXY: '' }, undefined],
  ['https://a.example/', { HTTPS_PROXY: 'q:2', NO_PROXY: '*' }, undefined],
  ['https://a.example/', { HTTPS_PROXY: 'q:2', NO_PROXY: 'b.example, .example' }, undefined],
  ['https://a.example/', { HTTPS_PROXY: 'q:2', no_proxy: 'A.EXAMPLE:443' }, undefined],
  ['https://a.example/', { HTTPS_PROXY: 'q:2', NO_PROXY: 'a.example:8443' }, 'http://q:2/'],
  ['https://aexample/', { HTTPS_PROXY: 'q:2', NO_PROXY: 'example' }, 'http://q:2/'],
  ['https://[::1]/', { HTTPS_PROXY: 'q:2', NO_PROXY: '::1' }, undefined],
];

for (const [url, env, expected] of CHOICES) {
  test(`${url} with ${JSON.stringify(env)} goes ${expected === undefined ? 'straight' : `by ${expected}`}`, () => {
    assert.equal(proxyFor(new URL(url), env)?.href, expected);
  });
}

test('an invalid proxy is refused with the name of its variable', () => {
  assert.throws(() => proxyFor(new URL('https://a.example/'), { HTTPS_PROXY: 'socks5://p:1' }), /HTTPS_PROXY is no/);
});
