/**
 * Every way in which a command or the agent itself can fail, as a closed list. Codes are an interface: acknowledgements
 * carry them and people script against them, so a code is never renamed and never reused for something else.
 */
export type ErrorCode =
  // the command itself
  | 'INVALID_JSON'
  | 'INVALID_FIELD'
  | 'UNKNOWN_FIELD'
  | 'UNKNOWN_VERB'
  | 'FOREIGN_HOST'
  | 'UNSUPPORTED'
  | 'DUPLICATE_NAME'
  | 'DUPLICATE_SEQ_ID'
  | 'NAME_CONFLICT'
  | 'SEQ_ID_TAKEN'
  | 'CHAINING_OFF'
  // order and age of commands
  | 'EXPIRED'
  | 'SUPERSEDED'
  | 'STALE_GENERATION'
  | 'GENERATION_GAP'
  | 'RESYNC_REQUIRED'
  | 'QUARANTINED'
  // packages
  | 'ARTIFACT_NOT_FOUND'
  | 'ARTIFACT_UNREACHABLE'
  | 'ARTIFACT_TOO_LARGE'
  | 'ARTIFACT_INVALID'
  | 'DIGEST_MISMATCH'
  | 'SIGNATURE_MISSING'
  | 'SIGNATURE_INVALID'
  | 'OBJECT_FILE_NOT_FOUND'
  // companions
  | 'COMPANION_NOT_FOUND'
  | 'COMPANION_FAILED'
  // the kernel
  | 'INTERFACE_NOT_FOUND'
  | 'OBJECT_INVALID'
  | 'ENTRY_FUNCTION_NOT_FOUND'
  | 'MAP_NOT_FOUND'
  | 'MAP_VALUE_INVALID'
  | 'MAP_INCOMPATIBLE'
  | 'SLOT_INVALID'
  | 'VERIFIER_REJECTED'
  | 'LOAD_FAILED'
  | 'ATTACH_FAILED'
  | 'HOOK_OCCUPIED'
  | 'KERNEL'
  | 'LEFTOVER'
  | 'NO_PRIVILEGE'
  // the agent
  | 'CONFIG_INVALID'
  | 'STATE_DIR_LOCKED'
  | 'JOURNAL_DAMAGED'
  | 'DUPLICATE_HOST'
  | 'STREAM_INCOMPATIBLE'
  | 'BROKER_UNREACHABLE'
  | 'TIMEOUT'
  | 'INTERNAL';

/** One thing that is wrong, as it stands in an acknowledgement's `errors`. */
export interface Fault {
  /** Where, as a path into the payload: `0.bpf_programs.xdp_ingress.2.seq_id`; absent when no field is to blame. */
  readonly path?: string;
  readonly code: ErrorCode;
  /** One sentence that a person can act on. */
  readonly message: string;
  /** What lies beneath: the verifier's last lines, an errno in words. */
  readonly detail?: string;
}

export interface AgentErrorOptions {
  readonly cause?: unknown;
  readonly path?: string;
  readonly detail?: string;
  /** Whether the same attempt may succeed later (a server that is down), as opposed to one that never will. */
  readonly transient?: boolean;
}

/** The one error type that stages throw on purpose. Anything else that reaches a handler is a bug and is reported as INTERNAL. */
export class AgentError extends Error {
  override readonly name: string = 'AgentError';
  readonly code: ErrorCode;
  readonly path: string | undefined;
  readonly detail: string | undefined;
  readonly transient: boolean;

  constructor(code: ErrorCode, message: string, options: AgentErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.path = options.path;
    this.detail = options.detail;
    this.transient = options.transient ?? false;
  }
}

/** A command that is refused at the door, with every fault that was found and not only the first. */
export class RefusedError extends AgentError {
  override readonly name = 'RefusedError';
  readonly faults: readonly Fault[];

  /** @param faults at least one */
  constructor(faults: readonly [Fault, ...Fault[]]) {
    const [first] = faults;
    const more = faults.length === 1 ? '' : ` (and ${faults.length - 1} more)`;
    super(first.code, `${first.message}${more}`, {
      ...(first.path !== undefined && { path: first.path }),
      ...(first.detail !== undefined && { detail: first.detail }),
    });
    this.faults = faults;
  }
}

/** The faults that an error amounts to: what it carries itself, or INTERNAL for anything unforeseen. */
export function faultsOf(error: unknown): readonly [Fault, ...Fault[]] {
  if (error instanceof RefusedError) return error.faults as [Fault, ...Fault[]];
  if (error instanceof AgentError) {
    return [
      {
        ...(error.path !== undefined && { path: error.path }),
        code: error.code,
        message: error.message,
        ...(error.detail !== undefined && { detail: error.detail }),
      },
    ];
  }
  const message = error instanceof Error ? error.message : String(error);
  return [{ code: 'INTERNAL', message: `Unexpected failure inside the agent: ${message}` }];
}

const DISK_FAULTS: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO']);

/** An error that a disk is to blame for, as one that says what cannot be written; any other as it is. */
export function blamingDisk(what: string, error: unknown): unknown {
  const code = diskFaultOf(error);
  if (code === undefined) return error;
  const message = `${what} cannot be written: ${code}; free space, or see to the disk`;
  return new AgentError('INTERNAL', message, { cause: error, transient: true });
}

function diskFaultOf(error: unknown): unknown {
  if (!(error instanceof Error)) return undefined;
  const code = 'code' in error ? error.code : undefined;
  return DISK_FAULTS.has(code) ? code : diskFaultOf(error.cause);
}
