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
 * Opens a file on a web server and follows redirects. Uses a proxy if the environment names one. Uses node:http and not
 * fetch: many servers mark a `.tar.gz` with `Content-Encoding: gzip`, and fetch would decompress it. The digest must be
 * that of the file's own bytes.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE, ARTIFACT_TOO_LARGE; or an error of the socket
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
      // A reader of the body gets its errors. This listener catches an error before there is a reader.
      response.on('error', () => {});
      resolve(response);
    });
    request.on('timeout', () => {
      const message = `${shownUrl(url)} sent nothing for ${idleMs} ms`;
      (answer ?? request).destroy(new AgentError('ARTIFACT_UNREACHABLE', message, { transient: true }));
    });
    request.on('error', reject);
    // A response that switches protocols (101) ends the request without a response or error event.
    request.on('close', () => reject(unanswered(url)));
    request.end();
  });
}

/** Where to send the request: to the URL's host or to a proxy. For https, the proxy only tunnels the connection. */
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
  // TLS sends a server name only if it is not an IP address (RFC 6066, 3).
  const servername = isIP(own.hostname) === 0 ? own.hostname : '';
  return { ...own, createConnection: () => connectTls({ socket, host: own.hostname, servername, ...ca }) };
}

/** Read again for each request, so that operators can replace the file while the agent runs. */
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
    throw new AgentError('ARTIFACT_UNREACHABLE', `${shownUrl(from)} redirects to an invalid URL`);
  }
  const target = new URL(location, from);
  requireKnownScheme(target);
  // A web server must not redirect to files of this host or to NATS, and never from https to http.
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
