import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import type { Verb } from '../domain/command.js';
import { AgentError } from '../errors.js';

/** A command's payload exactly as it is sent, and the host that it names. */
export interface PayloadFile {
  readonly body: Uint8Array;
  /** The same, parsed. */
  readonly json: unknown;
  /** Undefined when the payload names no host, for example when it is an empty list. */
  readonly host: string | undefined;
}

/**
 * Reads a payload byte for byte. Checks only that it is JSON and names at most one host. The rest is left to the agent,
 * since each version decides what is valid.
 *
 * @param file path, or `-` for standard input
 * @throws AgentError CONFIG_INVALID when it cannot be read, is not JSON, or names several hosts
 */
export async function readPayload(file: string): Promise<PayloadFile> {
  const source = file === '-' ? 'standard input' : file;
  let body: Uint8Array;
  try {
    body = file === '-' ? await buffer(process.stdin) : await readFile(file);
  } catch (cause) {
    throw new AgentError('CONFIG_INVALID', `Cannot read ${source}: ${(cause as Error).message}`, { cause });
  }
  let payload: unknown;
  try {
    payload = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (cause) {
    throw new AgentError('CONFIG_INVALID', `Expected JSON in ${source}: ${(cause as Error).message}`, { cause });
  }
  const hosts = [...new Set(hostNames(payload))];
  if (hosts.length > 1) {
    throw new AgentError(
      'CONFIG_INVALID',
      `Expected ${source} to name one host, got ${hosts.join(', ')}; send each host its own payload`,
    );
  }
  return { body, json: payload, host: hosts[0] };
}

function hostNames(payload: unknown): string[] {
  if (!Array.isArray(payload)) return [];
  return payload.flatMap((entry: unknown) =>
    typeof entry === 'object' && entry !== null && 'host_name' in entry && typeof entry.host_name === 'string'
      ? [entry.host_name]
      : [],
  );
}

/**
 * The hint for a refused plan whose payload belongs to another verb: `delete` takes names, the others take programs.
 */
export function verbHint(payload: unknown, verb: Verb): string | undefined {
  const kinds = new Set(entriesOf(payload).map((entry) => typeof entry));
  if (kinds.size !== 1) return undefined;
  if (kinds.has('string') && verb !== 'delete') return 'The payload lists names, as for a delete: use --verb delete';
  if (kinds.has('object') && verb === 'delete') return 'The payload lists programs, but a delete takes their names';
  return undefined;
}

/** The entries of all program lists, as far as the payload has the expected form. */
function entriesOf(payload: unknown): unknown[] {
  if (!Array.isArray(payload)) return [];
  return payload.flatMap((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null || !('bpf_programs' in entry)) return [];
    return Object.values(entry.bpf_programs ?? {}).flatMap((list: unknown) => (Array.isArray(list) ? list : []));
  });
}
