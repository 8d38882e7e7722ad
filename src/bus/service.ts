import type { ServiceMsg } from 'nats';
import { AgentError, type ErrorCode, faultsOf, machineError, messageOf, RefusedError } from '../errors.js';
import { ambiguitiesIn } from '../messages/ambiguity.js';
import { everShorter, type RequestRefusal } from '../messages/refusal.js';
import type { Subjects } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import type { BusLogger } from './logger.js';
import { isTooLarge } from './nats-errors.js';

/** Answers one request. `request` is the parsed body, undefined for an empty one; `raw` is its bytes. */
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
  readonly logger: BusLogger;
}

export interface Service {
  /** Accepts no further requests. */
  stop(): Promise<void>;
}

const encoder = new TextEncoder();
/** Characters of the reason that are put into the header. The body has all of it. */
const HEADER_TEXT_MAX = 1_000;
const SERVICE_NAME = 'l3af-agent';
/** The requester cannot fix these, so they are also written to the agent's log. */
const OWN_FAULTS: ReadonlySet<ErrorCode> = new Set(['INTERNAL', 'ANSWER_TOO_LARGE']);
/** Codes for which the requester is to blame. All others are the agent's. */
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
    // nats.js counts only errors that are thrown before the handler's first await.
    statsHandler: async ({ subject }) => ({ failures: failures.get(subject) ?? { count: 0 } }),
  });
  for (const [verb, handler] of Object.entries(handlers)) {
    for (const [name, subject] of [
      [verb, subjects.request(verb)],
      [`all-${verb}`, subjects.requestAll(verb)],
    ] as const) {
      service.addEndpoint(name, {
        subject,
        // One queue group per host: within one group only one member would answer.
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
    if (reason) logger.error({ err: reason }, 'requests are no longer answered');
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
    const what = `The answer is larger than the NATS server allows (${Buffer.byteLength(reply)} bytes)`;
    throw new AgentError('ANSWER_TOO_LARGE', `${what}; raise its max_payload`, { cause });
  }
}

function parse(message: ServiceMsg): unknown {
  if (message.data.length === 0) return undefined;
  let parameters: unknown;
  try {
    parameters = message.json();
  } catch (error) {
    throw new AgentError('INVALID_JSON', `The body of the request is not valid JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const [first, ...rest] = ambiguitiesIn(message.string());
  if (first !== undefined) throw new RefusedError([first, ...rest]);
  return parameters;
}

/**
 * Reports the failure to the requester. The reason goes into the headers that every micro service client reads, and in
 * full into the body. It is shortened if the server would not accept it, since the requester waits for an answer.
 */
function refuse(message: ServiceMsg, failure: unknown, logger: BusLogger): void {
  const known = failure instanceof AgentError ? failure : machineError(failure);
  const code = known?.code ?? 'INTERNAL';
  if (known !== failure || OWN_FAULTS.has(code))
    logger.error({ subject: message.subject, err: failure }, 'a request could not be answered');
  const whole: RequestRefusal = {
    code,
    message: messageOf(known ?? failure),
    ...(known !== undefined && { errors: [...faultsOf(known)] }),
  };
  const status = BAD_REQUEST.has(code) ? 400 : 500;
  try {
    for (const body of everShorter(whole)) {
      if (responded(message, status, body)) return;
    }
    logger.warn({ subject: message.subject, code }, 'the error reply to a request is larger than the server allows');
  } catch (error) {
    logger.debug({ subject: message.subject, err: error }, 'could not send the error reply to a request');
  }
}

/** @returns whether it is small enough for the server, including headers */
function responded(message: ServiceMsg, status: number, body: RequestRefusal): boolean {
  const line = body.message.replaceAll(/\s+/g, ' ').slice(0, HEADER_TEXT_MAX);
  try {
    return message.respondError(status, line, encoder.encode(JSON.stringify(body)));
  } catch (error) {
    if (isTooLarge(error)) return false;
    throw error;
  }
}
