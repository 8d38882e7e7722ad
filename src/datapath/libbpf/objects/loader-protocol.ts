import type { OtherPrograms } from '../../../domain/probe.js';
import { AgentError, type ErrorCode, messageOf } from '../../../errors.js';
import type { LoadProbesRequest, LoadRequest } from '../../datapath.js';

/* What the agent and the process that loads objects say to each other. */

/** Where bpffs is, and how much memory the maps of one object may take, in bytes. */
export interface LoadEnvironment {
  readonly bpffs: string;
  readonly maxMapBytes: number;
}

/** An object to load, as the entry program of a chain or for its probes. */
export type LoadOrder = LoadEnvironment &
  (
    | { readonly kind: 'program'; readonly request: LoadRequest }
    | { readonly kind: 'probes'; readonly request: LoadProbesRequest }
  );

/** Without an error: loaded and pinned. */
export type LoadResult = OtherPrograms | { readonly error: PlainError };

/** An error without its class, which no message between processes keeps. */
export interface PlainError {
  readonly message: string;
  readonly stack: string | undefined;
  /** Of an AgentError, what it has beside its message. */
  readonly agent?: Pick<AgentError, 'path' | 'detail' | 'transient'>;
  /** An `ErrorCode`, or of another error the name of its errno. */
  readonly code: string | undefined;
  readonly cause?: PlainError;
}

/** A chain of causes may be a cycle. */
const DEEPEST_CAUSE = 8;

export function plain(error: unknown, depth = 0): PlainError {
  const { stack, cause } = error instanceof Error ? error : {};
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  const of =
    error instanceof AgentError ? { path: error.path, detail: error.detail, transient: error.transient } : undefined;
  return {
    message: messageOf(error),
    stack,
    code,
    ...(of !== undefined && { agent: of }),
    ...(cause !== undefined && depth < DEEPEST_CAUSE && { cause: plain(cause, depth + 1) }),
  };
}

/** The error that {@link plain} was given. */
export function revive({ message, stack, code, agent, cause }: PlainError): Error {
  const revived = agent === undefined ? new Error(message) : agentError(message, code, agent);
  if (agent === undefined && code !== undefined) Object.assign(revived, { code });
  if (stack !== undefined) revived.stack = stack;
  if (cause !== undefined) revived.cause = revive(cause);
  return revived;
}

function agentError(message: string, code: string | undefined, agent: NonNullable<PlainError['agent']>): AgentError {
  const { path, detail, transient } = agent;
  return new AgentError(code as ErrorCode, message, {
    transient,
    ...(path !== undefined && { path }),
    ...(detail !== undefined && { detail }),
  });
}
