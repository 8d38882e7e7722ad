import { ErrorCode, NatsError } from 'nats';
import { AgentError } from '../errors.js';
import { type About, refusalOf } from './refusals.js';

/** JetStream's own error numbers (`server/errors.json` of nats-server). */
export const API_ERROR = {
  streamNameInUse: 10058,
  subjectsOverlap: 10065,
  wrongLastSequence: 10071,
  messageTooLarge: 10054,
  tooManyConsumers: 10026,
  tooManyStreams: 10027,
  maxBytesRequired: 10113,
} as const;

export function apiErrorOf(error: unknown): number | undefined {
  return error instanceof NatsError ? error.api_error?.err_code : undefined;
}

/** The stream, consumer or message does not exist. */
export function isNotFound(error: unknown): boolean {
  return error instanceof NatsError && error.code === ErrorCode.JetStream404NoMessages;
}

/** The account's permissions forbid it. */
export function isDenied(error: unknown): boolean {
  return error instanceof NatsError && error.code === ErrorCode.PermissionsViolation;
}

/** Nobody listens on the subject. A refusal of JetStream may have the same code, but then somebody has answered. */
export function isNoResponders(error: unknown): boolean {
  return error instanceof NatsError && error.code === ErrorCode.NoResponders && error.api_error === undefined;
}

/**
 * Turns an error of an exchange with the server into a sentence where nats.js has only a number. Returns any other
 * error unchanged.
 */
export function inWords(error: unknown, about: About = {}): unknown {
  const { stream } = about;
  const refusal = refusalOf(error, about);
  if (refusal !== undefined) return refusal;
  if (!(error instanceof NatsError)) return error;
  const unanswered = isNoResponders(error) ? nobody(stream) : SILENT.has(error.code) ? silence(stream) : undefined;
  return unanswered === undefined
    ? error
    : new AgentError('BROKER_UNREACHABLE', unanswered, { cause: error, transient: true });
}

function nobody(stream: string | undefined): string {
  if (stream === undefined) return noJetStream;
  return `Nobody answers for ${stream}: the server has no such stream, or its JetStream is not running`;
}

const noJetStream =
  'JetStream does not answer: it is not enabled on the NATS server or for this account, or it is just starting; enable it (jetstream { store_dir: … }), for the account too';

function silence(stream = 'JetStream'): string {
  return `${stream} did not answer in time: it may have no leader, because too many servers of the cluster are down`;
}

const SILENT: ReadonlySet<string> = new Set([ErrorCode.Timeout]);

/** Larger than the server allows, or than the stream's `max_msg_size`. */
export function isTooLarge(error: unknown): boolean {
  const refused = error instanceof NatsError && error.code === ErrorCode.MaxPayloadExceeded;
  return refused || apiErrorOf(error) === API_ERROR.messageTooLarge;
}

/**
 * Whether the same request may succeed later: the server is away, starting or electing a leader, or has no space at the
 * moment.
 */
export function isTransient(error: unknown): boolean {
  if (error instanceof AgentError) return error.transient;
  if (!(error instanceof NatsError)) return false;
  return refusalOf(error)?.transient ?? TRANSIENT.has(error.code);
}

const TRANSIENT: ReadonlySet<string> = new Set([
  ErrorCode.Timeout,
  ErrorCode.NoResponders,
  ErrorCode.Disconnect,
  ErrorCode.Cancelled,
  ErrorCode.ConnectionRefused,
  ErrorCode.ConnectionTimeout,
]);
