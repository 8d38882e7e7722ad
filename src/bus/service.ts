import type { ServiceMsg } from 'nats';
import { AgentError, type ErrorCode, faultsOf } from '../errors.js';
import { everShorter, type Refusal } from '../messages/refusal.js';
import type { Subjects } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import { type Logger, messageOf } from './logger.js';
import { isTooLarge } from './nats-errors.js';

/** Answers one request. `request` is the parsed body, undefined for an empty one; `raw` its bytes. */
export type RequestHandler = (request: unknown, raw: Uint8Array) => Promise<unknown>;

export interface ServiceOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  /** The host's token: in the metadata, and the queue group. */
  readonly host: string;
  /** Semantic version. */
  readonly version: string;
  /** By verb. */
  readonly handlers: Readonly<Record<string, RequestHandler>>;
  readonly logger: Logger;
}

export interface Service {
  /** Takes no further requests. */
  stop(): Promise<void>;
}

const encoder = new TextEncoder();
/** Characters of the reason that go into the header; whoever wants more reads the body. */
const HEADER_TEXT_MAX = 1_000;
const SERVICE_NAME = 'l3af-agent';
/** Codes for which the one who asked is to blame; all others are ours. */
const BAD_REQUEST: ReadonlySet<ErrorCode> = new Set(['INVALID_JSON', 'INVALID_FIELD', 'UNKNOWN_FIELD', 'UNKNOWN_VERB']);

/**
 * Answers requests to this host and to all hosts, as a micro service of NATS (ADR-32), so that `nats micro` finds it.
 *
 * @throws errors of nats.js when the service cannot be set up
 */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { bus, subjects, host, version, handlers, logger } = options;
  const failures = new Map<string, { count: number; last: string }>();
  const service = await bus.nc.services.add({
    name: SERVICE_NAME,
    version,
    description: 'Chains of eBPF programs on one host',
    metadata: { host },
    // nats.js counts only errors that are thrown before the handler's first wait.
    statsHandler: async ({ subject }) => ({ failures: failures.get(subject) ?? { count: 0 } }),
  });
  for (const [verb, handler] of Object.entries(handlers)) {
    for (const [name, subject] of [
      [verb, subjects.request(verb)],
      [`all-${verb}`, subjects.requestAll(verb)],
    ] as const) {
      service.addEndpoint(name, {
        subject,
        // Of the host's own: within one group only one member would answer.
        queue: host,
        handler: (error, message) => {
          if (error) return;
          void answer(message, handler).catch((failure: unknown) => {
            failures.set(subject, { count: (failures.get(subject)?.count ?? 0) + 1, last: messageOf(failure) });
            refuse(message, failure, logger);
          });
        },
      });
    }
  }
  void service.stopped.then((reason) => {
    if (reason) logger.error({ err: reason }, 'Requests are no longer answered');
  });
  return {
    stop: async () => {
      await service.stop();
    },
  };
}

async function answer(message: ServiceMsg, handler: RequestHandler): Promise<void> {
  const reply = JSON.stringify((await handler(parse(message), message.data)) ?? null);
  try {
    message.respond(reply);
  } catch (cause) {
    if (!isTooLarge(cause)) throw cause;
    const what = `The answer is larger than the NATS server takes (${Buffer.byteLength(reply)} bytes)`;
    throw new AgentError('INTERNAL', `${what}; raise its max_payload`, { cause });
  }
}

function parse(message: ServiceMsg): unknown {
  if (message.data.length === 0) return undefined;
  try {
    return message.json();
  } catch (error) {
    throw new AgentError('INVALID_JSON', `The request's body is not JSON: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * The reason goes into the headers that every micro service client reads, and whole into the body: as far as the server takes it, since
 * who gets no answer waits for it.
 */
function refuse(message: ServiceMsg, failure: unknown, logger: Logger): void {
  const code = failure instanceof AgentError ? failure.code : 'INTERNAL';
  const text = messageOf(failure);
  if (code === 'INTERNAL') logger.error({ subject: message.subject, err: failure }, 'A request could not be answered');
  const whole: Refusal = {
    code,
    message: text,
    ...(failure instanceof AgentError && { errors: [...faultsOf(failure)] }),
  };
  const status = BAD_REQUEST.has(code) ? 400 : 500;
  try {
    for (const body of everShorter(whole)) {
      if (responded(message, status, body)) return;
    }
    logger.warn({ subject: message.subject, code }, 'The failure of a request is larger than the server takes');
  } catch (error) {
    logger.debug({ subject: message.subject, err: error }, 'The failure of a request could not be told');
  }
}

/** @returns whether it is small enough for the server, headers and all */
function responded(message: ServiceMsg, status: number, body: Refusal): boolean {
  const line = body.message.replaceAll(/\s+/g, ' ').slice(0, HEADER_TEXT_MAX);
  try {
    return message.respondError(status, line, encoder.encode(JSON.stringify(body)));
  } catch (error) {
    if (isTooLarge(error)) return false;
    throw error;
  }
}
