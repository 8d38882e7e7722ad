import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIPv6, type Socket } from 'node:net';
import { AgentError } from '../errors.js';
import { CONTENT_TYPE, type Format, formatFor } from './openmetrics.js';

/** Sent as JSON: status 200 while healthy, 503 otherwise. */
export interface Health {
  readonly healthy: boolean;
  readonly [detail: string]: unknown;
}

export interface TelemetryServerOptions {
  /** Name or address to listen on; IPv6 without brackets. */
  readonly host: string;
  /** 0 for a free port. */
  readonly port: number;
  readonly metrics: { text(format: Format): Promise<string> };
  readonly health: () => Health;
  readonly log: { error(fields: object, message: string): void };
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly allow?: string;
}

const MAX_HEADER_BYTES = 8 * 1024;
/** Above this, the oldest connections without a request in progress are closed, so that slow clients shut nobody out. */
const MAX_CONNECTIONS = 64;
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const METHODS = ['GET', 'HEAD'];
/** What passes by itself: another process ends, an interface comes up. */
const PASSING: ReadonlySet<string> = new Set(['EADDRINUSE', 'EADDRNOTAVAIL']);
const LISTEN_PROBLEMS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use by another process',
  EADDRNOTAVAIL: 'is not an address of this host',
  EACCES: 'may not be used by this user',
  ENOTFOUND: 'cannot be resolved',
};

/** Serves `/metrics` for Prometheus and `/healthz` for health checks, both read-only. */
export class TelemetryServer {
  readonly #options: TelemetryServerOptions;
  #server: Server | undefined;
  /** The open connections, the oldest first, and those of them whose request is being answered. */
  readonly #connections = new Set<Socket>();
  readonly #answering = new Set<Socket>();

  constructor(options: TelemetryServerOptions) {
    this.#options = options;
  }

  /**
   * @returns its URL, as in `http://127.0.0.1:8898`
   * @throws AgentError CONFIG_INVALID when it cannot listen on the address; transient if that may pass
   */
  async start(): Promise<{ url: string }> {
    const { host, port, log } = this.#options;
    const server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: HEADERS_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: 1_000,
      },
      (request, response) => void this.#handle(request, response),
    );
    server.on('connection', (socket) => this.#admit(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(cannotListen(host, port, error)));
      server.listen(port, host, resolve);
    });
    server.removeAllListeners('error').on('error', (err) => log.error({ err }, 'telemetry server failed'));
    this.#server = server;
    return { url: `http://${bracketed(host)}:${portOf(server)}` };
  }

  /** Also closes open connections. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  #admit(socket: Socket): void {
    this.#connections.add(socket);
    socket.once('close', () => this.#connections.delete(socket));
    if (this.#connections.size <= MAX_CONNECTIONS) return;
    const oldest = [...this.#connections].find((other) => !this.#answering.has(other));
    oldest?.destroy();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { socket } = request;
    this.#answering.add(socket);
    response.once('close', () => this.#answering.delete(socket));
    request.resume();
    let answer: Answer;
    try {
      answer = await this.#answer(request.method ?? '', request.url ?? '', request.headers.accept);
    } catch (err) {
      this.#options.log.error({ err, url: request.url }, 'telemetry request failed');
      answer = plain(500, 'The agent could not collect this. See its log.');
    }
    response.writeHead(answer.status, {
      'content-type': answer.type,
      'content-length': Buffer.byteLength(answer.body),
      'cache-control': 'no-store',
      ...(answer.allow !== undefined && { allow: answer.allow }),
    });
    response.end(request.method === 'HEAD' ? undefined : answer.body);
  }

  async #answer(method: string, url: string, accept: string | undefined): Promise<Answer> {
    const { metrics, health } = this.#options;
    const [path] = url.split('?', 1);
    if (path !== '/metrics' && path !== '/healthz') return plain(404, 'Nothing here; try /metrics or /healthz.');
    if (!METHODS.includes(method)) {
      return { ...plain(405, `${path} is read-only; use GET.`), allow: METHODS.join(', ') };
    }
    if (path === '/metrics') {
      const format = formatFor(accept);
      return { status: 200, type: CONTENT_TYPE[format], body: await metrics.text(format) };
    }
    const state = health();
    return { status: state.healthy ? 200 : 503, type: 'application/json', body: `${JSON.stringify(state)}\n` };
  }
}

function plain(status: number, sentence: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body: `${sentence}\n` };
}

function cannotListen(host: string, port: number, error: Error): AgentError {
  const code = 'code' in error ? String(error.code) : '';
  const problem = LISTEN_PROBLEMS[code] ?? `cannot be used (${error.message})`;
  return new AgentError(
    'CONFIG_INVALID',
    `The metrics address ${bracketed(host)}:${port} ${problem}; choose another one with metrics_addr, or set it to "off".`,
    { cause: error, transient: PASSING.has(code) },
  );
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function bracketed(host: string): string {
  return isIPv6(host) ? `[${host}]` : host;
}
