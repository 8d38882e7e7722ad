import http from 'node:http';
import https from 'node:https';
import type { Readable } from 'node:stream';
import { AgentError } from '../errors.js';
import type { FetchLimits } from './limits.js';
import { requireKnownScheme, shownUrl } from './location.js';

/**
 * Opens a file on a web server, following redirects. node:http and not fetch, which would undo a `Content-Encoding: gzip` that
 * many servers put on a `.tar.gz`: what is hashed and unpacked must be the file's own bytes.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE, ARTIFACT_TOO_LARGE; or what the socket says
 */
export async function openHttp(url: URL, limits: FetchLimits, signal: AbortSignal): Promise<Readable> {
  let place = url;
  for (let redirects = 0; redirects <= limits.maxRedirects; redirects++) {
    const response = await get(place, limits.idleMs, signal);
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

function get(url: URL, idleMs: number, signal: AbortSignal): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const client = url.protocol === 'https:' ? https : http;
    const headers = { 'accept-encoding': 'identity', 'user-agent': 'l3af-agent' };
    const request = client.get(url, { headers, timeout: idleMs, signal });
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
  });
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
  const weaker = target.protocol === 'file:' || (from.protocol === 'https:' && target.protocol === 'http:');
  if (weaker) {
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
