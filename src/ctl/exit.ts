import { AgentError, type ErrorCode } from '../errors.js';
import type { AckStatus } from '../messages/ack.js';

/** The exit codes that scripts read from `$?`. */
export const EXIT = { done: 0, refused: 1, usage: 2, timeout: 3, unreachable: 4 } as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export function exitCodeOfStatus(status: AckStatus): ExitCode {
  return status === 'applied' || status === 'unchanged' ? EXIT.done : EXIT.refused;
}

const EXIT_OF_CODE: Partial<Record<ErrorCode, ExitCode>> = {
  CONFIG_INVALID: EXIT.usage,
  TIMEOUT: EXIT.timeout,
  BROKER_UNREACHABLE: EXIT.unreachable,
};

export function exitCodeOf(error: unknown): ExitCode {
  return (error instanceof AgentError && EXIT_OF_CODE[error.code]) || EXIT.refused;
}
