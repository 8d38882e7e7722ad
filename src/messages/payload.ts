import { z } from 'zod';
import { AGGREGATORS } from '../domain/aggregate.js';
import type { MapValue } from '../domain/program.js';
import {
  artifactName,
  commandName,
  commandOptions,
  fieldPath,
  freeText,
  functionName,
  ifaceName,
  integer,
  ipv4Address,
  mapName,
  monitorLabels,
  objectFileName,
  optionalBoolean,
  optionalInteger,
  optionalList,
  optionalMapName,
  optionalText,
  programName,
  repositoryUrl,
  rulesFileName,
  text,
  versionText,
} from './forms.js';

/*
 * The payloads of the three commands: l3afd's, with every unknown field refused. Absent, null and Go's zero value mean
 * the same. What no schema language can say (uniqueness, the right host) is in checks.ts.
 */

const MAX_INTERFACES = 64;

/**
 * The kernel ends a packet's way after 33 tail calls (include/linux/bpf.h, MAX_TAIL_CALL_CNT): the root's call of the
 * first program is the first of them, so the 33rd program is the last that is reached.
 */
const MAX_CHAIN = 33;

export const MAX_MAP_ENTRIES = 4096;

const MAX_MAPS = 64;
/** What fits the kernel's and every shell's idea of a time. */
const MAX_CPU_SECONDS = 2 ** 31 - 1;

const MAX_SEQ_ID = 1_000_000;

const MAP_VALUE = {
  error:
    'an integer of at most 2^53 - 1, a text of 1 to 4096 printable characters, true, false, ' +
    'a list of such or an object of such by names of fields',
};
const fieldName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,126}$/);

/**
 * A key or value of a map. What it has to be depends on the map, which only the object file tells of; here it is held that it could be
 * something: no fraction, no null.
 */
const mapValue: z.ZodType<MapValue> = z
  .union(
    [
      z.int(),
      z.string().regex(/^[!-~]([ -~]{0,4094}[!-~])?$/, MAP_VALUE),
      z.boolean(),
      z.lazy(() => z.array(mapValue).max(MAX_MAP_ENTRIES, MAP_VALUE)),
      z.lazy(() => z.record(fieldName, mapValue, MAP_VALUE)),
    ],
    MAP_VALUE,
  )
  .meta({ id: 'MapValue', description: 'A key or value of a map; objects stand for structs, lists for arrays' });

const mapEntry = z.strictObject({ key: mapValue, value: mapValue }, { error: 'an object {key, value}' });

const mapArgs = z.strictObject(
  { name: mapName, args: optionalList(mapEntry, MAX_MAP_ENTRIES, 'objects {key, value}') },
  { error: 'an object {name, args}' },
);

const MONITOR_EXPECTED = 'an object {name, key, aggregator} and, if wanted, {field, labels}';

const monitorMap = z.strictObject(
  {
    name: mapName,
    key: mapValue.describe('A key of the map, or "*" for all keys of a small one'),
    aggregator: z.enum(AGGREGATORS, { error: AGGREGATORS.map((name) => `"${name}"`).join(', ') }),
    field: fieldPath.describe('Which number of a value that is a struct or an array; not known to l3afd'),
    key_type: freeText.describe('Accepted and not used: the map itself tells what its keys are'),
    labels: monitorLabels.describe('Further labels of the series; not known to l3afd'),
  },
  { error: MONITOR_EXPECTED },
);

export const programSchema = z
  .strictObject(
    {
      id: optionalInteger.describe("The controller's own number; not used"),
      name: programName,
      seq_id: integer(0, MAX_SEQ_ID).describe('Position in the chain, ascending, gaps allowed'),
      artifact: artifactName.describe('The package, <repository>/<name>/<version>/<platform>/<artifact>'),
      map_name: optionalMapName.describe("The program's one-entry PROG_ARRAY that names its successor"),
      cmd_start: commandName.describe('The companion: a program of the package that is started with this one'),
      cmd_stop: commandName.describe('Stops the companion; SIGTERM does where there is none'),
      cmd_status: commandName.describe('Prints RUNNING while the companion does'),
      cmd_config: commandName.describe('Run after the start, and when config_args change'),
      cmd_update: commandName.describe('Run with --cmd=update after the start, and when update_args change'),
      version: versionText,
      user_program_daemon: optionalBoolean.describe(
        'True: cmd_start keeps running. False: it ends, and its exit status counts',
      ),
      is_plugin: optionalBoolean.describe('Accepted and not used, as l3afd does'),
      cpu: integer(0, MAX_CPU_SECONDS)
        .nullish()
        .describe('CPU time in seconds that each process of the companion may use up, 0 for any'),
      memory: integer(0, Number.MAX_SAFE_INTEGER)
        .nullish()
        .describe('Memory in bytes that the companion may have, 0 for any'),
      admin_status: optionalText('enabled|disabled', '"enabled" or "disabled"').describe('Enabled unless given'),
      prog_type: optionalText('xdp|tc', '"xdp" or "tc"').describe('What the list says, unless given'),
      rules_file: rulesFileName.describe("Name of the file that rules are written to, in the package's folder"),
      // Rules are a file's content and so the one text with line breaks.
      rules: z
        .string({ error: 'a text' })
        .nullish()
        .describe('Content of the file that the companion gets as --rules-file'),
      config_file_path: freeText,
      cfg_version: optionalInteger,
      start_args: commandOptions.describe('Options of cmd_start'),
      stop_args: commandOptions.describe('Options of cmd_stop'),
      status_args: commandOptions.describe('Options of cmd_status'),
      update_args: commandOptions.describe('Options of cmd_update'),
      map_args: optionalList(
        mapArgs,
        MAX_MAPS,
        'objects {name, args: [{key, value}]} (an object of texts, as early versions of l3afd took it, is refused)',
      ).describe('Entries to write into maps of the program; changing them needs no reload'),
      carry_maps: optionalList(mapName, MAX_MAPS, 'names of maps').describe(
        'Maps that a new version takes over from the one it replaces, contents and all; not known to l3afd',
      ),
      config_args: commandOptions.describe('Options of cmd_config'),
      monitor_maps: optionalList(monitorMap, MAX_MAPS, 'objects {name, key, aggregator}').describe(
        'What is read of its maps again and again, for the metrics',
      ),
      ebpf_package_repo_url: repositoryUrl.describe("The repository, '' for the agent's own"),
      sha256: optionalText('[0-9A-Fa-f]{64}', 'a SHA-256 digest, 64 hexadecimal digits').describe(
        'The digest that the artifact has to have; not known to l3afd',
      ),
      object_file: objectFileName.describe('The eBPF object in the package'),
      entry_function_name: functionName.describe("The program's function in the object"),
    },
    { error: 'an object with the fields of a program' },
  )
  .meta({ id: 'Program', description: 'One program of a chain' });

/** The same without an order: nothing passes a probe. */
const probeSchema = programSchema
  .extend({
    seq_id: integer(0, MAX_SEQ_ID).nullish().describe('Without meaning, since probes have no order'),
    prog_type: optionalText('[A-Za-z0-9_.-]{1,32}', 'a kind of probe, such as "kprobe"').describe(
      'Without meaning, since the sections of its object file say what a probe is; not "xdp" or "tc"',
    ),
  })
  .meta({ id: 'Probe', description: 'The probes of one package' });

const ENTRY_EXPECTED = 'an object {host_name, iface, bpf_programs}';

/** One entry per interface; `item` is what the lists of the hooks hold, `probe` what that of probes does. */
function interfaces<T extends z.ZodType, P extends z.ZodType>(item: T, probe: P, maxItems: number, items: string) {
  const list = optionalList(item, maxItems, items);
  const lists = z.strictObject(
    {
      xdp_ingress: list,
      tc_ingress: list,
      tc_egress: list,
      probes: optionalList(probe, maxItems, items).describe(
        'What hangs at no interface: at tracepoints, and at functions of the kernel or of programs',
      ),
    },
    { error: 'an object {xdp_ingress, tc_ingress, tc_egress, probes}' },
  );
  const entry = z.strictObject(
    {
      host_name: text('.+', "the host's name").describe('Must be the name of the host that the command is sent to'),
      iface: ifaceName,
      ipv4_address: ipv4Address.describe("The interface's address, a label of its metrics"),
      bpf_programs: lists.nullish(),
    },
    { error: ENTRY_EXPECTED },
  );
  const expected = `a list of at most ${MAX_INTERFACES} interfaces, each ${ENTRY_EXPECTED}`;
  return z.array(entry, { error: expected }).max(MAX_INTERFACES, { error: expected });
}

/** Of `deploy` and `add`. */
export const programsPayload = interfaces(programSchema, probeSchema, MAX_CHAIN, 'programs');

/** Of `delete`. */
export const namesPayload = interfaces(programName, programName, MAX_CHAIN, 'names of programs');

/** Of a program, or of a probe. */
export type ProgramPayload = z.infer<typeof probeSchema>;
export type ProgramsPayload = z.infer<typeof programsPayload>;
export type NamesPayload = z.infer<typeof namesPayload>;
