import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { scratchFolder } from './scratch.js';
import { run } from './tool.js';

export interface PackageServer {
  /** Without a slash at the end. */
  readonly url: string;
  /** The requested paths, in order. */
  readonly requests: readonly string[];
  /** Sets the response for a path; other paths get 404. */
  answer(path: string, answer: Buffer | string | RequestListener): void;
}

/** A web server on its own port that ends with the test. */
export async function startPackageServer(t: TestContext): Promise<PackageServer> {
  const answers = new Map<string, Buffer | string | RequestListener>();
  const requests: string[] = [];
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const path = request.url ?? '';
    requests.push(path);
    const answer = answers.get(path);
    if (answer === undefined) response.writeHead(404).end('there is nothing here');
    else if (typeof answer === 'function') answer(request, response);
    else response.end(answer);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, requests, answer: (path, answer) => answers.set(path, answer) };
}

/** A web server for `localhost` with a certificate of its own authority. */
export async function startTlsServer(t: TestContext, answer: RequestListener) {
  const dir = await scratchFolder(t);
  const [keyFile, caFile] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile];
  await run('openssl', ['req', '-x509', ...key, '-out', caFile, '-days', '2', ...subject]);
  const server = createTlsServer({ key: await readFile(keyFile), cert: await readFile(caFile) }, answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `https://localhost:${port}/a`, caFile, port };
}
