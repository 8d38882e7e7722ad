import { z } from 'zod';
import type { ErrorCode } from '../errors.js';

/** What each code tells a controller. The type keeps the list complete; the generated schemas carry the text. */
const MEANING: Readonly<Record<ErrorCode, string>> = {
  INVALID_JSON: 'The body is no JSON text',
  INVALID_FIELD: 'A field has a value that it cannot have',
  UNKNOWN_FIELD: 'The payload has a field that does not exist',
  UNKNOWN_VERB: 'The last token of the subject is no verb',
  FOREIGN_HOST: 'host_name is not the host that the command was sent to',
  UNSUPPORTED: 'The payload asks for a package from a kind of place that the agent does not know',
  DUPLICATE_NAME: 'The same name twice where it must be unique',
  DUPLICATE_SEQ_ID: 'The same position twice in one chain',
  NAME_CONFLICT: 'A program of that name is desired already, with other content',
  SEQ_ID_TAKEN: 'Another program has that position already',
  CHAINING_OFF: 'More than one program at a hook, while chaining is switched off',
  EXPIRED: 'The command was older than its L3AF-Expires allows',
  SUPERSEDED: 'A later command of the backlog made this one needless',
  STALE_GENERATION: 'The generation is not newer than the last one applied',
  GENERATION_GAP: 'The predecessor named by L3AF-Prev-Gen was not applied; send a deploy',
  RESYNC_REQUIRED: 'The agent waits for a deploy, because the stream was rewound or made anew',
  QUARANTINED: 'The agent died on this command repeatedly and has put it aside',
  ARTIFACT_NOT_FOUND: 'The repository does not have the package',
  ARTIFACT_UNREACHABLE: 'The repository does not answer',
  ARTIFACT_TOO_LARGE: 'The package is larger than allowed',
  ARTIFACT_INVALID: 'The package is damaged or holds what a package must not hold',
  DIGEST_MISMATCH: 'The package is not the one that was announced',
  SIGNATURE_MISSING: 'The package is not signed, and has to be',
  SIGNATURE_INVALID: 'The package is not signed by a trusted key, or is not the one that was signed',
  OBJECT_FILE_NOT_FOUND: 'The package does not hold the object file',
  COMPANION_NOT_FOUND: 'The package does not hold a command of the companion as an executable file',
  COMPANION_FAILED: 'The companion ended at once, or a command of it failed',
  INTERFACE_NOT_FOUND: 'The host has no such interface',
  OBJECT_INVALID: 'The object file is no eBPF object that libbpf can open',
  ENTRY_FUNCTION_NOT_FOUND: 'The object file has no such program',
  MAP_NOT_FOUND: 'The object file has no such map',
  MAP_VALUE_INVALID: 'A key or value does not fit its map',
  MAP_INCOMPATIBLE: 'A map cannot be taken over: its type or its sizes differ',
  SLOT_INVALID: 'map_name is not a PROG_ARRAY of one entry',
  VERIFIER_REJECTED: 'The verifier refused the program',
  LOAD_FAILED: 'The kernel refused to load the program',
  ATTACH_FAILED: 'The kernel refused to attach the program',
  HOOK_OCCUPIED: 'A program that is not ours holds the hook',
  KERNEL: 'A system call failed',
  LEFTOVER: 'Something that should be gone from the kernel is still there',
  NO_PRIVILEGE: 'The agent lacks a capability',
  CONFIG_INVALID: "The agent's or the client's configuration is wrong",
  STATE_DIR_LOCKED: 'Another agent uses the state directory',
  JOURNAL_DAMAGED: "The agent's journal cannot be read",
  DUPLICATE_HOST: 'Another agent runs under the same host name',
  STREAM_INCOMPATIBLE: 'A stream exists with settings that would lose commands',
  BROKER_UNREACHABLE: 'No NATS server answers',
  TIMEOUT: 'No answer in time',
  INTERNAL: 'A defect of the agent itself',
};

/**
 * A code on the wire. Readers take codes that they do not know, since agents may be newer than their controller; the
 * generated schema lists the known ones.
 */
export const codeSchema = z.string().meta({
  id: 'Code',
  description: Object.entries(MEANING)
    .map(([code, meaning]) => `${code}: ${meaning}.`)
    .join('\n'),
  examples: Object.keys(MEANING),
  // For its writers the type is the closed list.
}) as unknown as z.ZodType<ErrorCode, ErrorCode>;
