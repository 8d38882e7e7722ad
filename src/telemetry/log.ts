import { type DestinationStream, pino, stdTimeFunctions } from 'pino';

/**
 * Messages are constant, so that they can be counted and searched for. They begin with a small letter, except for
 * names, and have no full stop. Values are in fields, in snake_case: an error in `err`, the id of a command in `op`,
 * how long something took in `duration_ms`, and the time until the next attempt in `pause_ms`.
 */
export interface Logger {
  readonly trace: LogMethod;
  readonly debug: LogMethod;
  readonly info: LogMethod;
  readonly warn: LogMethod;
  readonly error: LogMethod;
  readonly fatal: LogMethod;
  /** A logger that adds these fields to every line. */
  child(fields: Readonly<Record<string, unknown>>): Logger;
}

export interface LogMethod {
  (fields: object, message: string): void;
  (message: string): void;
}

export interface LoggerOptions {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
  /** Name of the host, on every line. */
  readonly host: string;
  /** Standard output if absent. */
  readonly destination?: DestinationStream;
}

/** Longer chains of causes are cut. Nobody reads further, and a chain may be a cycle. */
const DEEPEST_CAUSE = 8;

/** A logger that writes one JSON object per line, with the level as a word and the time in ISO 8601. */
export function createLogger({ level, host, destination }: LoggerOptions): Logger {
  const options = {
    level,
    base: { name: 'l3af-agent', host },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: serializeError },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

export interface SerializedError {
  readonly type: string;
  readonly message: string;
  /** The code of an AgentError, or of the system (`ENOENT`). */
  readonly code?: string | number;
  readonly path?: string;
  readonly detail?: string;
  readonly stack?: string;
  readonly cause?: SerializedError;
  /** The errors of an AggregateError. */
  readonly errors?: readonly SerializedError[];
}

function serializeError(error: unknown, depth = 0): SerializedError {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const { code, path, detail } = error as { code?: unknown; path?: unknown; detail?: unknown };
  const deeper = depth < DEEPEST_CAUSE;
  return {
    type: error.name,
    message: error.message,
    ...((typeof code === 'string' || typeof code === 'number') && { code }),
    ...(typeof path === 'string' && { path }),
    ...(typeof detail === 'string' && { detail }),
    ...(error.stack !== undefined && { stack: error.stack }),
    ...(deeper && error.cause !== undefined && { cause: serializeError(error.cause, depth + 1) }),
    ...(deeper &&
      error instanceof AggregateError && { errors: error.errors.map((inner) => serializeError(inner, depth + 1)) }),
  };
}
