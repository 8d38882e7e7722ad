/**
 * Every way in which a command or the agent itself can fail, as a closed list. Codes are an interface: acknowledgements
 * contain them and users' scripts depend on them. So a code is never renamed and never reused for something else.
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
  | 'CGROUP_NOT_FOUND'
  | 'OBJECT_INVALID'
  | 'ENTRY_FUNCTION_NOT_FOUND'
  | 'MAP_NOT_FOUND'
  | 'MAP_VALUE_INVALID'
  | 'MAP_INCOMPATIBLE'
  | 'MAPS_TOO_LARGE'
  | 'SLOT_INVALID'
  | 'VERIFIER_REJECTED'
  | 'LOAD_FAILED'
  | 'ATTACH_FAILED'
  | 'HOOK_OCCUPIED'
  | 'KERNEL'
  | 'LEFTOVER'
  | 'NO_PRIVILEGE'
  // the machine
  | 'DISK_FULL'
  | 'DISK_FAULT'
  | 'TOO_MANY_OPEN_FILES'
  | 'OUT_OF_MEMORY'
  | 'PERMISSION_DENIED'
  | 'LIBRARY_MISSING'
  // the agent
  | 'CONFIG_INVALID'
  | 'STATE_DIR_LOCKED'
  | 'STATE_LOST'
  | 'JOURNAL_DAMAGED'
  | 'DUPLICATE_HOST'
  | 'STREAM_INCOMPATIBLE'
  | 'BROKER_UNREACHABLE'
  | 'BROKER_REFUSED'
  | 'ANSWER_TOO_LARGE'
  | 'TIMEOUT'
  | 'INTERNAL';

/** One thing that is wrong, as in an acknowledgement's `errors`. */
export interface Fault {
  /** Path into the payload: `0.bpf_programs.xdp_ingress.2.seq_id`; absent when no field is wrong. */
  readonly path?: string;
  readonly code: ErrorCode;
  /** One sentence that a person can act on. */
  readonly message: string;
  /** The underlying cause: the verifier's last lines, an errno in words. */
  readonly detail?: string;
}

export interface AgentErrorOptions {
  readonly cause?: unknown;
  readonly path?: string;
  readonly detail?: string;
  /** Whether the same attempt may succeed later, for example because a server is down now. */
  readonly transient?: boolean;
}

/**
 * The one error type that all parts throw on purpose. Any other error that reaches a handler is a fault of the machine,
 * if its errno says so (see {@link machineFaultOf}), or a defect of the agent, reported as INTERNAL.
 */
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

/** A command that is rejected before it runs, with every fault that was found, not only the first. */
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

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The faults of an error: its own faults, or a fault of the machine; INTERNAL for any unforeseen error. */
export function faultsOf(error: unknown): readonly [Fault, ...Fault[]] {
  if (error instanceof RefusedError) return error.faults as [Fault, ...Fault[]];
  const known = error instanceof AgentError ? error : machineError(error);
  if (known === undefined) {
    return [{ code: 'INTERNAL', message: `Unexpected failure inside the agent: ${messageOf(error)}` }];
  }
  return [
    {
      ...(known.path !== undefined && { path: known.path }),
      code: known.code,
      message: known.message,
      ...(known.detail !== undefined && { detail: known.detail }),
    },
  ];
}

/** Something that the agent needs and the machine does not provide. */
interface MachineFault {
  readonly code: ErrorCode;
  /** A sentence without its full stop. */
  readonly what: string;
  /** What somebody can do about it. */
  readonly advice: string;
}

const DENIED: MachineFault = {
  code: 'PERMISSION_DENIED',
  what: 'The agent is denied access',
  advice: 'check the owner and the mode of the file, and the capabilities of the agent',
};

/** By the name of the errno, as in `code` of Node's errors. */
const MACHINE_FAULTS: ReadonlyMap<string, MachineFault> = new Map<string, MachineFault>([
  ['ENOSPC', { code: 'DISK_FULL', what: 'The disk is full', advice: 'free space' }],
  ['EDQUOT', { code: 'DISK_FULL', what: 'The disk quota is exhausted', advice: 'free space, or raise the quota' }],
  ['EROFS', { code: 'DISK_FAULT', what: 'The file system is read-only', advice: 'mount it read-write' }],
  ['EIO', { code: 'DISK_FAULT', what: 'The disk has a fault', advice: 'check the disk' }],
  [
    'EMFILE',
    {
      code: 'TOO_MANY_OPEN_FILES',
      what: 'The agent has too many files open',
      advice: 'raise its limit (LimitNOFILE in the systemd unit)',
    },
  ],
  [
    'ENFILE',
    {
      code: 'TOO_MANY_OPEN_FILES',
      what: 'The machine has too many files open',
      advice: 'raise its limit (the sysctl fs.file-max)',
    },
  ],
  [
    'ENOMEM',
    {
      code: 'OUT_OF_MEMORY',
      what: 'There is not enough memory',
      advice: 'free memory, or raise the limit (MemoryMax in the systemd unit)',
    },
  ],
  ['EACCES', DENIED],
  ['EPERM', DENIED],
]);

/** A chain of causes may be a cycle. */
const DEEPEST_CAUSE = 16;

/** The machine fault of an error or of one of its causes; undefined for any other error. */
export function machineFaultOf(error: unknown): (MachineFault & { readonly errno: string }) | undefined {
  let at = error;
  for (let depth = 0; at instanceof Error && depth < DEEPEST_CAUSE; depth += 1, at = at.cause) {
    const errno = 'code' in at ? String(at.code) : '';
    const fault = MACHINE_FAULTS.get(errno);
    if (fault !== undefined) return { ...fault, errno };
  }
  return undefined;
}

/** Turns an error of Node that is a machine fault into one with a code; undefined for any other. */
export function machineError(error: unknown): AgentError | undefined {
  const fault = machineFaultOf(error);
  if (fault === undefined) return undefined;
  return new AgentError(fault.code, `${fault.what} (${messageOf(error)}); ${fault.advice}`, { cause: error });
}

/** Turns an error of a disk into one that says what cannot be written. Returns any other error unchanged. */
export function blamingDisk(what: string, error: unknown): unknown {
  const fault = machineFaultOf(error);
  if (fault?.code !== 'DISK_FULL' && fault?.code !== 'DISK_FAULT') return error;
  const message = `${what} cannot be written: ${fault.errno}; ${fault.advice}`;
  return new AgentError(fault.code, message, { cause: error, transient: true });
}
