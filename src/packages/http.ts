import { readFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import { isIP } from 'node:net';
import type { Readable } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { AgentError } from '../errors.js';
import { credentialsOf, requireKnownScheme, shownUrl } from './location.js';
import { proxyFor, proxyHeaders, tunnel } from './proxy.js';
import type { Transport } from './transport.js';

/**
 * Opens a file on a web server, by a proxy where the environment names one, following redirects. node:http and not fetch, which would undo a `Content-Encoding: gzip` that
 * many servers put on a `.tar.gz`: what is hashed and unpacked must be the file's own bytes.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE, ARTIFACT_TOO_LARGE; or what the socket says
 */
export async function openHttp(url: URL, transport: Transport, signal: AbortSignal): Promise<Readable> {
  const { limits } = transport;
  let place = url;
  for (let redirects = 0; redirects <= limits.maxRedirects; redirects++) {
    const response = await get(place, transport, signal);
    const status = response.statusCode ?? 0;
    if (status === 200) {
      refuseTooLong(response, place, limits.maxBytes);
      return response;
    }
    response.destroy();
    if (![301, 302, 303, 307, 308].includes(status)) throw refusal(place, status);
    place = redirectTarget(place, response.headers.location);
  }
  const message = `${shownUrl(url)} redirects more than ${limits.maxRedirects} times`;
  throw new AgentError('ARTIFACT_UNREACHABLE', message);
}

async function get(url: URL, transport: Transport, signal: AbortSignal): Promise<http.IncomingMessage> {
  const { idleMs } = transport.limits;
  const options = { ...(await route(url, transport, signal)), timeout: idleMs, signal };
  return new Promise((resolve, reject) => {
    const request = options.protocol === 'https:' ? https.request(options) : http.request(options);
    let answer: http.IncomingMessage | undefined;
    request.on('response', (response) => {
      answer = response;
      // The body's faults go to whoever reads it; this one is for the time before that, when there is nobody.
      response.on('error', () => {});
      resolve(response);
    });
    request.on('timeout', () => {
      const message = `${shownUrl(url)} sent nothing for ${idleMs} ms`;
      (answer ?? request).destroy(new AgentError('ARTIFACT_UNREACHABLE', message, { transient: true }));
    });
    request.on('error', reject);
    // An answer that switches protocols (101) ends the request with neither a response nor an error.
    request.on('close', () => reject(unanswered(url)));
    request.end();
  });
}

/** Whom to ask for a URL, and how: its own host, or a proxy; https through a proxy goes end to end. */
async function route(url: URL, transport: Transport, signal: AbortSignal): Promise<https.RequestOptions> {
  const { hostname, host, port, protocol, pathname, search } = url;
  const headers = { 'accept-encoding': 'identity', 'user-agent': 'l3af-agent', host };
  const auth = credentialsOf(url);
  const own = {
    protocol,
    hostname: hostname.replace(/^\[|\]$/g, ''),
    port,
    path: `${pathname}${search}`,
    headers,
    ...(auth !== undefined && { auth }),
  };
  const proxy = proxyFor(url, transport.env ?? process.env);
  if (protocol === 'http:') {
    if (proxy === undefined) return own;
    const path = `http://${host}${own.path}`;
    const through = { protocol: proxy.protocol, hostname: proxy.hostname, port: proxy.port };
    return { ...own, ...through, path, headers: { ...headers, ...proxyHeaders(proxy) } };
  }
  const ca = transport.caFile === undefined ? {} : { ca: await authorities(transport.caFile) };
  if (proxy === undefined) return { ...own, ...ca };
  const socket = await tunnel(url, proxy, transport.limits.idleMs, signal);
  // A server is named by TLS only where it has a name (RFC 6066, 3).
  const servername = isIP(own.hostname) === 0 ? own.hostname : '';
  return { ...own, createConnection: () => connectTls({ socket, host: own.hostname, servername, ...ca }) };
}

/** Read for each request, so that it can be renewed under a running agent. */
async function authorities(caFile: string): Promise<Buffer> {
  try {
    return await readFile(caFile);
  } catch (cause) {
    const message = `The certificate authorities ${caFile} cannot be read: ${(cause as Error).message}`;
    throw new AgentError('CONFIG_INVALID', message, { cause });
  }
}

function unanswered(url: URL): AgentError {
  const message = `${shownUrl(url)} cannot be fetched: the connection ended without an answer`;
  return new AgentError('ARTIFACT_UNREACHABLE', message, { transient: true });
}

function refuseTooLong(response: http.IncomingMessage, url: URL, maxBytes: number): void {
  const announced = Number(response.headers['content-length'] ?? 0);
  if (announced <= maxBytes) return;
  response.destroy();
  throw new AgentError(
    'ARTIFACT_TOO_LARGE',
    `${shownUrl(url)} has ${announced} bytes; at most ${maxBytes} are accepted`,
  );
}

function redirectTarget(from: URL, location: string | undefined): URL {
  if (location === undefined || !URL.canParse(location, from.href)) {
    throw new AgentError('ARTIFACT_UNREACHABLE', `${shownUrl(from)} redirects to no valid place`);
  }
  const target = new URL(location, from);
  requireKnownScheme(target);
  // Not to a folder of this host, nor to the bus, where a server of the web has no business; and never to what is not encrypted.
  const web = ['http:', 'https:'].includes(target.protocol);
  if (!web || (from.protocol === 'https:' && target.protocol === 'http:')) {
    const message = `${shownUrl(from)} redirects from ${from.protocol}// to ${target.protocol}//, which is refused`;
    throw new AgentError('ARTIFACT_UNREACHABLE', message);
  }
  return target;
}

function refusal(url: URL, status: number): AgentError {
  if (status === 404 || status === 410) {
    return new AgentError('ARTIFACT_NOT_FOUND', `${shownUrl(url)} does not exist (HTTP ${status})`);
  }
  const transient = status >= 500 || status === 408 || status === 429;
  const words = `${status} ${http.STATUS_CODES[status] ?? ''}`.trim();
  return new AgentError('ARTIFACT_UNREACHABLE', `${shownUrl(url)} answered ${words}`, { transient });
}
