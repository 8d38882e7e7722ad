import type { z } from 'zod';
import { ATTACH_POINTS } from '../domain/attach-points/registry.js';
import { type Command, type DeleteTarget, VERBS, type Verb } from '../domain/command.js';
import { type DesiredState, normalize } from '../domain/desired.js';
import { ATTACH_POINT_NAMES, hookOf } from '../domain/hook.js';
import { isObject } from '../domain/json.js';
import { toProgram } from '../domain/program.js';
import { RefusedError } from '../errors.js';
import { parseBody } from './body.js';
import { faultsOfIssues, MAX_FAULTS, pathText, shown } from './faults.js';
import { type NamesPayload, namesPayload, type ProgramsPayload, payloadFor, programsPayload } from './payload.js';

/**
 * Reads one command. Whatever the bytes are, the outcome is a command or a refusal.
 *
 * @param verb last token of the subject, known or not
 * @param hostName the host's own name, which every `host_name` of the payload must repeat
 * @throws RefusedError with everything that is wrong, up to {@link MAX_FAULTS} faults
 */
export function parseCommand(verb: string, body: Uint8Array, hostName: string): Command {
  if (!isVerb(verb)) {
    const message = `Expected ${VERBS.join(', ')} as the verb in the subject, got ${shown(verb)}`;
    throw new RefusedError([{ code: 'UNKNOWN_VERB', message }]);
  }
  const payload = parseBody(body);
  checkSize(payload);
  if (verb === 'delete') {
    const names = validate(payloadFor(hostName, namesPayload), payload);
    const probes = names.flatMap(({ bpf_programs: lists }) => lists?.probes ?? []);
    return { verb, targets: deleteTargets(names), ...(probes.length > 0 && { probes }) };
  }
  return { verb, ...desiredState(validate(payloadFor(hostName, programsPayload), payload)) };
}

/** More than fits into a body if they are valid: what is not even that must not cost long to refuse. */
const MAX_PROGRAMS = 4096;

/** @throws RefusedError for more interfaces and programs together than the schemas are to look at */
function checkSize(payload: unknown): void {
  const entries = Array.isArray(payload) ? payload.filter(isObject) : [];
  const lists = entries.flatMap(({ bpf_programs: lists }) => (isObject(lists) ? Object.values(lists) : []));
  const count = lists.reduce<number>((sum, list) => sum + (Array.isArray(list) ? list.length : 0), entries.length);
  if (count <= MAX_PROGRAMS) return;
  const message = `Expected at most ${MAX_PROGRAMS} interfaces and programs in a payload, got ${count}`;
  throw new RefusedError([{ code: 'INVALID_FIELD', message }]);
}

function isVerb(verb: string): verb is Verb {
  return VERBS.some((known) => known === verb);
}

function validate<T>(schema: z.ZodType<T>, payload: unknown): T {
  const result = schema.safeParse(payload);
  if (result.success) return result.data;
  throw new RefusedError(faultsOfIssues(result.error.issues, payload));
}

function desiredState(payload: ProgramsPayload): DesiredState {
  const chains = payload.flatMap(({ iface, bpf_programs: lists }, index) =>
    ATTACH_POINT_NAMES.map((attachPoint) => {
      const list = ATTACH_POINTS[attachPoint].payloadList;
      const programs = (lists?.[list] ?? []).map((program, position) =>
        toProgram(program, pathText([index, 'bpf_programs', list, position])),
      );
      return { hook: hookOf(iface, attachPoint), programs };
    }),
  );
  const addresses = Object.fromEntries(
    payload.flatMap(({ iface, ipv4_address: address }) => (address ? [[iface, address] as const] : [])),
  );
  const probes = payload.flatMap(({ bpf_programs: lists }, index) =>
    (lists?.probes ?? []).map((probe, position) => ({
      ...toProgram(probe, pathText([index, 'bpf_programs', 'probes', position])),
      // Probes have no order.
      seqId: 0,
    })),
  );
  return normalize({ chains, addresses, probes });
}

function deleteTargets(payload: NamesPayload): DeleteTarget[] {
  return payload.flatMap(({ iface, bpf_programs: lists }) =>
    ATTACH_POINT_NAMES.map((attachPoint) => ({
      hook: hookOf(iface, attachPoint),
      names: lists?.[ATTACH_POINTS[attachPoint].payloadList] ?? [],
    })).filter(({ names }) => names.length > 0),
  );
}
