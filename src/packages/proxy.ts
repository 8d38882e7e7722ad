import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import { isIP, type Socket } from 'node:net';
import { AgentError } from '../errors.js';
import { credentialsOf, shownUrl } from './location.js';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The proxy for a URL, from the environment as curl(1) reads it: `HTTPS_PROXY` or `HTTP_PROXY` by the URL's scheme, and
 * none for hosts in `NO_PROXY`. Names in lower case take precedence.
 *
 * @throws AgentError ARTIFACT_UNREACHABLE for a proxy that is not an http or https URL
 */
export function proxyFor(url: URL, env: Environment): URL | undefined {
  const name = url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const text = variable(name, env);
  if (text === '' || isExcepted(url, variable('NO_PROXY', env))) return undefined;
  const address = text.includes('://') ? text : `http://${text}`;
  const proxy = URL.canParse(address) ? new URL(address) : undefined;
  if (proxy !== undefined && ['http:', 'https:'].includes(proxy.protocol)) return proxy;
  throw new AgentError('ARTIFACT_UNREACHABLE', `${name} is not the address of a proxy: expected http:// or https://`);
}

/** The `proxy-authorization` header, if the proxy's address has a user or a password. */
export function proxyHeaders(proxy: URL): Record<string, string> {
  const user = credentialsOf(proxy);
  if (user === undefined) return {};
  return { 'proxy-authorization': `Basic ${Buffer.from(user).toString('base64')}` };
}

/**
 * Opens a connection through a proxy to the host of an https URL (RFC 9110, 9.3.6).
 *
 * @throws AgentError ARTIFACT_UNREACHABLE when the proxy refuses; or an error of the socket
 */
export async function tunnel(url: URL, proxy: URL, idleMs: number, signal: AbortSignal): Promise<Socket> {
  const authority = `${url.hostname}:${url.port || 443}`;
  const client = proxy.protocol === 'https:' ? https : http;
  const place = new URL('/', proxy);
  const headers = { host: authority, ...proxyHeaders(proxy) };
  const request = client.request(place, { method: 'CONNECT', path: authority, headers, timeout: idleMs, signal });
  request.on('timeout', () => {
    const message = `The proxy ${shownUrl(place)} sent nothing for ${idleMs} ms`;
    request.destroy(new AgentError('ARTIFACT_UNREACHABLE', message, { transient: true }));
  });
  request.end();
  const [{ statusCode }, socket] = (await once(request, 'connect')) as [http.IncomingMessage, Socket];
  if (statusCode === 200) return socket;
  socket.destroy();
  const message = `The proxy ${shownUrl(place)} refuses a connection to ${authority}: HTTP ${statusCode}`;
  throw new AgentError('ARTIFACT_UNREACHABLE', message, { transient: (statusCode ?? 0) >= 500 });
}

function variable(name: string, env: Environment): string {
  return (env[name.toLowerCase()] ?? env[name] ?? '').trim();
}

/** Entries are `*`, hosts, or domains with all their subdomains. An entry with `:port` applies to that port only. */
function isExcepted(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true;
      const [, name = '', only] = /^(.*?)(?::(\d+))?$/.exec(isIP(entry) === 6 ? `[${entry}]` : entry) ?? [];
      const domain = name.replace(/^\[|\]$/g, '').replace(/^\*?\./, '');
      return (only === undefined || only === port) && (host === domain || host.endsWith(`.${domain}`));
    });
}
