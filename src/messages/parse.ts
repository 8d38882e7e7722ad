import type { z } from 'zod';
import { type Command, type DeleteTarget, VERBS, type Verb } from '../domain/command.js';
import { type DesiredState, normalize } from '../domain/desired.js';
import { DIRECTIONS, PAYLOAD_LIST } from '../domain/hook.js';
import type { Companion, CompanionArgs, Program } from '../domain/program.js';
import { type Fault, RefusedError } from '../errors.js';
import { parseBody } from './body.js';
import { checkNames, checkPrograms } from './checks.js';
import { faultsOfIssues, MAX_FAULTS, pathText, shown } from './faults.js';
import {
  type NamesPayload,
  namesPayload,
  type ProgramPayload,
  type ProgramsPayload,
  programsPayload,
} from './payload.js';
import { checkProbeNames, checkProbes } from './probe-checks.js';

/**
 * Reads one command. Whatever the bytes are, the outcome is a command or a refusal.
 *
 * @param verb last token of the subject, known or not
 * @param hostName the host's own name, which every `host_name` of the payload has to repeat
 * @throws RefusedError with everything that is wrong, up to {@link MAX_FAULTS} faults
 */
export function parseCommand(verb: string, body: Uint8Array, hostName: string): Command {
  if (!isVerb(verb)) {
    const message = `Expected ${VERBS.join(', ')} as the verb in the subject, got ${shown(verb)}`;
    throw new RefusedError([{ code: 'UNKNOWN_VERB', message }]);
  }
  const payload = parseBody(body);
  if (verb === 'delete') {
    const faults = [...checkNames(payload, hostName), ...checkProbeNames(payload)];
    const names = validate(namesPayload, payload, faults);
    const probes = names.flatMap(({ bpf_programs: lists }) => lists?.probes ?? []);
    return { verb, targets: deleteTargets(names), ...(probes.length > 0 && { probes }) };
  }
  const faults = [...checkPrograms(payload, hostName), ...checkProbes(payload)];
  return { verb, ...desiredState(validate(programsPayload, payload, faults)) };
}

function isVerb(verb: string): verb is Verb {
  return VERBS.some((known) => known === verb);
}

function validate<T>(schema: z.ZodType<T>, payload: unknown, found: readonly Fault[]): T {
  const result = schema.safeParse(payload);
  const faults = [...(result.success ? [] : faultsOfIssues(result.error.issues, payload)), ...found].slice(
    0,
    MAX_FAULTS,
  );
  const [first, ...rest] = faults;
  if (first !== undefined) throw new RefusedError([first, ...rest]);
  return result.data as T;
}

function desiredState(payload: ProgramsPayload): DesiredState {
  const chains = payload.flatMap(({ iface, bpf_programs: lists }, index) =>
    DIRECTIONS.map((direction) => {
      const list = PAYLOAD_LIST[direction];
      const programs = (lists?.[list] ?? []).map((program, position) =>
        toProgram(program, pathText([index, 'bpf_programs', list, position])),
      );
      return { hook: { iface, direction }, programs };
    }),
  );
  const addresses = Object.fromEntries(
    payload.flatMap(({ iface, ipv4_address: address }) => (address ? [[iface, address] as const] : [])),
  );
  const probes = payload.flatMap(({ bpf_programs: lists }, index) =>
    (lists?.probes ?? []).map((probe, position) => ({
      ...toProgram(probe, pathText([index, 'bpf_programs', 'probes', position])),
      // There is no order among them, and so nothing that could change.
      seqId: 0,
    })),
  );
  return normalize({ chains, addresses, probes });
}

function deleteTargets(payload: NamesPayload): DeleteTarget[] {
  return payload.flatMap(({ iface, bpf_programs: lists }) =>
    DIRECTIONS.map((direction) => ({
      hook: { iface, direction },
      names: lists?.[PAYLOAD_LIST[direction]] ?? [],
    })).filter(({ names }) => names.length > 0),
  );
}

/** Go's zero value stands for whatever is absent. */
function toProgram(payload: ProgramPayload, path: string): Program {
  return {
    name: payload.name,
    version: payload.version,
    seqId: payload.seq_id ?? 0,
    artifact: payload.artifact,
    repoUrl: payload.ebpf_package_repo_url ?? '',
    ...(payload.sha256 && { sha256: payload.sha256.toLowerCase() }),
    objectFile: payload.object_file ?? '',
    entryFunction: payload.entry_function_name ?? '',
    mapName: payload.map_name ?? '',
    enabled: payload.admin_status !== 'disabled',
    carryMaps: payload.carry_maps ?? [],
    mapArgs: (payload.map_args ?? []).map(({ name, args }) => ({ name, args: args ?? [] })),
    ...monitorsOf(payload),
    ...companionOf(payload),
    path,
    payload: withoutNulls(payload) as Readonly<Record<string, unknown>>,
  };
}

function monitorsOf({ monitor_maps: maps }: ProgramPayload): Pick<Program, 'monitors'> {
  if (!maps || maps.length === 0) return {};
  return {
    monitors: maps.map(({ key_type: _, ...map }) => ({ ...map, field: map.field ?? '', labels: map.labels ?? {} })),
  };
}

/** What there is to run in user space, if there is anything. */
function companionOf(payload: ProgramPayload): Pick<Program, 'companion'> {
  const companion: Companion = {
    cmdStart: payload.cmd_start ?? '',
    startArgs: optionsOf(payload.start_args),
    daemon: payload.user_program_daemon === true,
    cmdStop: payload.cmd_stop ?? '',
    stopArgs: optionsOf(payload.stop_args),
    cmdStatus: payload.cmd_status ?? '',
    statusArgs: optionsOf(payload.status_args),
    cmdUpdate: payload.cmd_update ?? '',
    updateArgs: optionsOf(payload.update_args),
    cmdConfig: payload.cmd_config ?? '',
    configArgs: optionsOf(payload.config_args),
    cpuSeconds: payload.cpu ?? 0,
    memoryBytes: payload.memory ?? 0,
    rulesFile: payload.rules_file ?? '',
    rules: payload.rules ?? '',
  };
  const { cmdStart, cmdUpdate, updateArgs, cmdConfig } = companion;
  const updates = cmdUpdate !== '' && Object.keys(updateArgs).length > 0;
  return cmdStart !== '' || cmdConfig !== '' || updates ? { companion } : {};
}

function optionsOf(args: ProgramPayload['start_args']): CompanionArgs {
  return Object.fromEntries(Object.entries(args ?? {}).map(([name, value]) => [name, String(value)]));
}

/** The same value without the fields that are null. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== null)
      .map(([key, inner]) => [key, withoutNulls(inner)]),
  );
}
