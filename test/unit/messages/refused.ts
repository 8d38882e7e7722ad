import assert from 'node:assert/strict';
import { type Fault, RefusedError } from '../../../src/errors.js';
import { parseCommand } from '../../../src/messages/parse.js';
import { HOST } from './payloads.js';

/** The faults of a refusal. Fails if there is no refusal. */
export function refused(verb: string, body: Uint8Array): readonly Fault[] {
  try {
    parseCommand(verb, body, HOST);
  } catch (error) {
    assert.ok(error instanceof RefusedError, `expected a RefusedError, got ${error}`);
    return error.faults;
  }
  return assert.fail('expected a refusal, got a command');
}

export function places(faults: readonly Fault[]): string[] {
  return faults.map(({ code, path }) => (path === undefined ? code : `${code} ${path}`));
}

/** Where the first two programs of a payload's first XDP chain are. */
export const P0 = '0.bpf_programs.xdp_ingress.0';
export const P1 = '0.bpf_programs.xdp_ingress.1';
