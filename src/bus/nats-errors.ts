import { ErrorCode, NatsError } from 'nats';
import { AgentError } from '../errors.js';

/** JetStream's own error numbers (`server/errors.json` of nats-server). */
export const API_ERROR = {
  streamNameInUse: 10058,
  subjectsOverlap: 10065,
  wrongLastSequence: 10071,
  messageTooLarge: 10054,
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

export function isNoResponders(error: unknown): boolean {
  return error instanceof NatsError && error.code === ErrorCode.NoResponders;
}

/** An error of an exchange with a stream, in words where nats.js has but a number. */
export function inWords(error: unknown, stream: string): unknown {
  if (!isNoResponders(error)) return error;
  const message = `Nobody answers for ${stream}: the server has no such stream, or JetStream is not up there`;
  return new AgentError('BROKER_UNREACHABLE', message, { cause: error, transient: true });
}

/** Larger than the server takes at all, or than the stream's `max_msg_size`. */
export function isTooLarge(error: unknown): boolean {
  const refused = error instanceof NatsError && error.code === ErrorCode.MaxPayloadExceeded;
  return refused || apiErrorOf(error) === API_ERROR.messageTooLarge;
}

/** Whether the same request may succeed later: the server is away, starting, or electing a leader. */
export function isTransient(error: unknown): boolean {
  if (error instanceof AgentError) return error.transient;
  if (!(error instanceof NatsError)) return false;
  if (error.api_error !== undefined) return error.api_error.code === 503;
  return TRANSIENT.has(error.code);
}

const TRANSIENT: ReadonlySet<string> = new Set([
  ErrorCode.Timeout,
  ErrorCode.NoResponders,
  ErrorCode.Disconnect,
  ErrorCode.Cancelled,
  ErrorCode.ConnectionRefused,
  ErrorCode.ConnectionTimeout,
]);
