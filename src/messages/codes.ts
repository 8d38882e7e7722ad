import * as z from 'zod';
import type { ErrorCode } from '../errors.js';

/** What each code means for a controller. The type keeps the list complete. The generated schemas contain the text. */
const MEANING: Readonly<Record<ErrorCode, string>> = {
  INVALID_JSON: 'The body is not valid JSON',
  INVALID_FIELD: 'A field has an invalid value',
  UNKNOWN_FIELD: 'The payload has a field that does not exist',
  UNKNOWN_VERB: 'The last token of the subject is not a known verb',
  FOREIGN_HOST: 'host_name is not the host to which the command was sent',
  UNSUPPORTED: 'The payload names a kind of package source that the agent does not support',
  DUPLICATE_NAME: 'A name occurs twice where it must be unique',
  DUPLICATE_SEQ_ID: 'A position occurs twice in one chain',
  NAME_CONFLICT: 'A program of that name is already desired, with other content',
  SEQ_ID_TAKEN: 'Another program already has that position',
  CHAINING_OFF: 'More than one program at a hook, while chaining is switched off',
  EXPIRED: 'The command was older than its L3AF-Expires allows',
  SUPERSEDED: 'A later command has made this one unnecessary, or was handled before it',
  STALE_GENERATION: 'The generation is not newer than the last one applied',
  GENERATION_GAP: 'The predecessor named by L3AF-Prev-Gen was not applied; send a deploy',
  RESYNC_REQUIRED: 'The agent waits for a deploy, because the stream was rewound or created again',
  QUARANTINED: 'The agent died repeatedly while it handled this command, and does not try it again',
  ARTIFACT_NOT_FOUND: 'The repository does not have the package',
  ARTIFACT_UNREACHABLE: 'The repository does not answer',
  ARTIFACT_TOO_LARGE: 'The package is larger than allowed',
  ARTIFACT_INVALID: 'The package is damaged or contains something that is not allowed',
  DIGEST_MISMATCH: 'The content of the package does not match its announced digest',
  SIGNATURE_MISSING: 'The package must be signed, but is not',
  SIGNATURE_INVALID: 'The package is not signed by a trusted key, or does not match its signature',
  OBJECT_FILE_NOT_FOUND: 'The package does not contain the object file',
  COMPANION_NOT_FOUND: 'The package does not contain a command of the companion as an executable file',
  COMPANION_FAILED: 'The companion ended at once, or one of its commands failed',
  INTERFACE_NOT_FOUND: 'The host has no such interface',
  CGROUP_NOT_FOUND: 'The host has no such control group',
  OBJECT_INVALID: 'The object file is not an eBPF object that libbpf can open',
  ENTRY_FUNCTION_NOT_FOUND: 'The object file has no such program',
  MAP_NOT_FOUND: 'The object file has no such map',
  MAP_VALUE_INVALID: 'A key or value does not fit its map',
  MAP_INCOMPATIBLE: 'A map cannot be carried over: its type or its sizes differ',
  MAPS_TOO_LARGE: 'The maps of the object would take more memory than the host allows',
  SLOT_INVALID: 'map_name is not a PROG_ARRAY with one entry',
  VERIFIER_REJECTED: 'The verifier rejected the program',
  LOAD_FAILED: 'The kernel refused to load the program',
  ATTACH_FAILED: 'The kernel refused to attach the program',
  HOOK_OCCUPIED: 'A foreign program occupies the hook',
  KERNEL: 'A system call failed',
  LEFTOVER: 'Something that should have been removed from the kernel still exists',
  NO_PRIVILEGE: 'The agent lacks a capability',
  DISK_FULL: 'A disk that the agent writes to is full, or its quota is exhausted',
  DISK_FAULT: 'A disk that the agent needs is read-only or has a fault',
  TOO_MANY_OPEN_FILES: 'The agent or the machine has reached its limit of open files',
  OUT_OF_MEMORY: "The machine's memory, or the agent's share of it, is exhausted",
  PERMISSION_DENIED: 'The agent is not permitted to use a file or a system call that it needs',
  LIBRARY_MISSING: 'libbpf 1.x is not installed',
  CONFIG_INVALID: "The agent's or the client's configuration is wrong",
  STATE_DIR_LOCKED: 'Another agent uses the state directory',
  STATE_LOST: 'The state directory, the journal or the bpffs was removed or replaced under the agent',
  JOURNAL_DAMAGED: "The agent's journal cannot be read",
  DUPLICATE_HOST: 'Another agent runs under the same host name',
  STREAM_INCOMPATIBLE: 'A stream exists with settings that would lose commands',
  BROKER_UNREACHABLE: 'No NATS server answers',
  BROKER_REFUSED:
    'The NATS server refused a request; the message says which limit or stream it is, and what can be done',
  ANSWER_TOO_LARGE: 'The answer to a request is larger than the NATS server allows',
  TIMEOUT: 'No answer in time',
  INTERNAL: 'A defect of the agent itself',
};

/**
 * A code in a message. Readers accept unknown codes, since agents may be newer than their controller. The generated
 * schema lists the known ones.
 */
export const codeSchema = z.string().meta({
  id: 'Code',
  description: Object.entries(MEANING)
    .map(([code, meaning]) => `${code}: ${meaning}.`)
    .join('\n'),
  examples: Object.keys(MEANING),
  // For writers the type is the closed list.
}) as unknown as z.ZodType<ErrorCode, ErrorCode>;
