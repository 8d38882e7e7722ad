import { createHash } from 'node:crypto';
import * as z from 'zod';
import { AGGREGATORS } from './aggregate.js';
import { ATTACH_POINTS } from './attach-points/registry.js';
import { converted, givenShape, keptForm, keptShape, optional, readFields, required, unused } from './fields.js';
import {
  artifactName,
  commandName,
  commandOptions,
  fieldPath,
  freeText,
  functionName,
  furtherOptions,
  integer,
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
  versionText,
} from './forms.js';
import { isObject } from './json.js';

const PROGRAM_TYPES = [...new Set(Object.values(ATTACH_POINTS).map(({ programType }) => programType))];

/*
 * The only definition of a program's form: what a payload may contain, and what the agent and its journal keep. Absent,
 * null and Go's zero value mean the same in a payload. Rules that span several fields are in messages/checks.ts.
 */

export const MAX_MAP_ENTRIES = 4096;
export const MAX_SEQ_ID = 1_000_000;

const MAX_MAPS = 64;
/** The largest time that both the kernel and every shell accept. */
const MAX_CPU_SECONDS = 2 ** 31 - 1;

const text = z.string();
const texts: z.ZodType<readonly string[]> = z.array(text);
const textsByName: z.ZodType<Readonly<Record<string, string>>> = z.record(text, text);

/**
 * A key or value of a map, as a payload gives it. Integers beyond 2^53, byte strings (`0x…`), IPv4, IPv6 and MAC
 * addresses are strings; structs are objects by field name, arrays are lists.
 */
export type MapValue = number | string | boolean | readonly MapValue[] | { readonly [field: string]: MapValue };

const MAP_VALUE = {
  error:
    'an integer of at most 2^53 - 1, a text of 1 to 4096 printable characters, true, false, ' +
    'a list of these, or an object of these by field name',
};

/**
 * The map decides which values are valid, and only the object file describes it. This schema refuses what no map
 * accepts, such as fractions and null.
 */
const givenMapValue: z.ZodType<MapValue> = z
  .union(
    [
      z.int(),
      z.string().regex(/^[!-~]([ -~]{0,4094}[!-~])?$/, MAP_VALUE),
      z.boolean(),
      z.lazy(() => z.array(givenMapValue).max(MAX_MAP_ENTRIES, MAP_VALUE)),
      z.lazy(() => z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,126}$/), givenMapValue, MAP_VALUE)),
    ],
    MAP_VALUE,
  )
  .meta({ id: 'MapValue', description: 'A key or value of a map; objects stand for structs, lists for arrays' });

const mapValue: z.ZodType<MapValue> = z.union([
  z.number(),
  text,
  z.boolean(),
  z.lazy(() => z.array(mapValue)),
  z.lazy(() => z.record(text, mapValue)),
]);

/** The entries that a payload wants in one map of a program (`map_args`). */
export type MapArgs = z.output<typeof mapArgs>;

const givenMapArgs = z.strictObject(
  {
    name: mapName,
    args: optionalList(
      z.strictObject({ key: givenMapValue, value: givenMapValue }, { error: 'an object {key, value}' }),
      MAX_MAP_ENTRIES,
      'objects {key, value}',
    ),
  },
  { error: 'an object {name, args}' },
);

const mapEntries: z.ZodType<readonly { readonly key: MapValue; readonly value: MapValue }[]> = z.array(
  keptForm({ key: mapValue, value: mapValue }),
);
const mapArgs = keptForm({ name: text, args: mapEntries });

/** What a payload wants to be read at intervals from one map of a program (`monitor_maps`). */
export type MonitoredMap = z.output<typeof monitoredMap>;

const MONITOR_FIELDS = {
  name: required('name', mapName, text),
  /** `*` for all existing keys. */
  key: required('key', givenMapValue.describe('A key of the map, or "*" for all keys of a small one'), mapValue),
  aggregator: required(
    'aggregator',
    z.enum(AGGREGATORS, { error: AGGREGATORS.map((name) => `"${name}"`).join(', ') }),
    z.enum(AGGREGATORS),
  ),
  /** Names and indices, joined by dots; '' for the value itself. */
  field: optional(
    'field',
    fieldPath.describe('Which number of a value that is a struct or an array; not known to l3afd'),
    text,
    '',
  ),
  key_type: unused(freeText.describe('Accepted but not used: the type of the keys comes from the map itself')),
  labels: optional(
    'labels',
    monitorLabels.describe('Additional labels of the series; not known to l3afd'),
    textsByName,
    {},
  ),
};

const givenMonitor = z.strictObject(givenShape(MONITOR_FIELDS), {
  error: 'an object {name, key, aggregator} and, if wanted, {field, labels}',
});
const monitoredMap = keptForm(keptShape(MONITOR_FIELDS));

/** Options of a companion's command: `--key=value`. */
export type CompanionArgs = z.output<typeof textsByName>;

/**
 * The user-space program of a package, as a payload requests it. Commands are file names in the package, '' for none,
 * each with its options from the payload.
 */
export type Companion = z.output<typeof companion>;

const COMPANION_FIELDS = {
  cmd_start: command('cmdStart', 'The companion: a program of the package that is started with this one'),
  start_args: options('startArgs', 'Options of cmd_start; with other ones the program begins with new maps'),
  user_program_daemon: converted(
    'daemon',
    optionalBoolean.describe('True: cmd_start keeps running. False: it ends, and its exit status counts'),
    z.boolean(),
    (isDaemon) => isDaemon === true,
  ),
  cmd_stop: command('cmdStop', 'Stops the companion; without it, the companion gets SIGTERM'),
  stop_args: options('stopArgs', 'Options of cmd_stop'),
  cmd_status: command('cmdStatus', 'Prints RUNNING while the companion runs'),
  status_args: options('statusArgs', 'Options of cmd_status', commandOptions),
  cmd_update: command('cmdUpdate', 'Run with --cmd=update after the start, and when update_args change'),
  update_args: options('updateArgs', 'Options of cmd_update'),
  cmd_config: command('cmdConfig', 'Run after the start, and when config_args change'),
  config_args: options('configArgs', 'Options of cmd_config'),
  cpu: optional(
    'cpuSeconds',
    integer(0, MAX_CPU_SECONDS)
      .nullish()
      .describe('Limit of the CPU time of each process of the companion, in seconds; 0 for none'),
    z.int(),
    0,
  ),
  memory: optional(
    'memoryBytes',
    integer(0, Number.MAX_SAFE_INTEGER)
      .nullish()
      .describe('Limit of the memory of the companion, in bytes; 0 for none'),
    z.int(),
    0,
  ),
  rules_file: optional(
    'rulesFile',
    rulesFileName.describe("Name of the file that rules are written to, in the package's folder"),
    text,
    '',
  ),
  // Rules are the content of a file, so they are the only text with line breaks.
  rules: optional(
    'rules',
    z
      .string({ error: 'a text' })
      .nullish()
      .describe('Content of the file whose path the companion gets as --rules-file'),
    text,
    '',
  ),
};

const companion = keptForm(keptShape(COMPANION_FIELDS));

function command<Name extends string>(name: Name, description: string) {
  return optional(name, commandName.describe(description), text, '');
}

function options<Name extends string>(name: Name, description: string, form = furtherOptions) {
  return converted(name, form.describe(description), textsByName, (args) =>
    Object.fromEntries(Object.entries(args ?? {}).map(([option, value]) => [option, String(value)])),
  );
}

const PROGRAM_FIELDS = {
  id: unused(optionalInteger.describe("The controller's own number; not used")),
  name: required('name', programName, text),
  version: required('version', versionText, text),
  /** Unique within the chain, not necessarily contiguous. */
  seq_id: required(
    'seqId',
    integer(0, MAX_SEQ_ID).describe('Position in the chain, ascending, gaps allowed'),
    z.number(),
  ),
  artifact: required(
    'artifact',
    artifactName.describe('The package, <repository>/<name>/<version>/<platform>/<artifact>'),
    text,
  ),
  ebpf_package_repo_url: optional(
    'repoUrl',
    repositoryUrl.describe("The repository, '' for the agent's own"),
    text,
    '',
  ),
  /** In lower case. */
  sha256: converted(
    'sha256',
    optionalText('[0-9A-Fa-f]{64}', 'a SHA-256 digest, 64 hexadecimal digits').describe(
      'The digest that the artifact must have; not known to l3afd',
    ),
    z.exactOptional(text),
    (digest) => (digest ? digest.toLowerCase() : undefined),
  ),
  /** '' if the program's companion loads it itself, see {@link isSelfLoaded}. */
  object_file: optional('objectFile', objectFileName.describe('The eBPF object in the package'), text, ''),
  entry_function_name: optional(
    'entryFunction',
    functionName.describe("The program's function in the object"),
    text,
    '',
  ),
  /** The program's slot; '' if it has none. */
  map_name: optional(
    'mapName',
    optionalMapName.describe("The program's one-entry PROG_ARRAY that names its successor"),
    text,
    '',
  ),
  /** False: desired, but not running. */
  admin_status: converted(
    'enabled',
    optionalText('enabled|disabled', '"enabled" or "disabled"').describe('Enabled by default'),
    z.boolean(),
    (status) => status !== 'disabled',
  ),
  carry_maps: optional(
    'carryMaps',
    optionalList(mapName, MAX_MAPS, 'names of maps').describe(
      'Maps that a new version, or a program with other start_args, takes over, contents and all; not known to l3afd',
    ),
    texts,
    [],
  ),
  map_args: converted(
    'mapArgs',
    optionalList(
      givenMapArgs,
      MAX_MAPS,
      'objects {name, args: [{key, value}]} (an object of texts, as early versions of l3afd took it, is refused)',
    ).describe(
      'Entries of maps and global variables of the program, compared with the live maps; only constants need a reload',
    ),
    z.array(mapArgs) as z.ZodType<readonly MapArgs[]>,
    (maps) => (maps ?? []).map(({ name, args }) => ({ name, args: args ?? [] })),
  ),
  /** Absent for none. */
  monitor_maps: converted(
    'monitors',
    optionalList(givenMonitor, MAX_MAPS, 'objects {name, key, aggregator}').describe(
      'Values that are read from its maps and global variables at intervals, for the metrics',
    ),
    z.exactOptional(z.array(monitoredMap) as z.ZodType<readonly MonitoredMap[]>),
    (maps) => (maps && maps.length > 0 ? maps.map((map) => readFields(MONITOR_FIELDS, map)) : undefined),
  ),
  prog_type: unused(
    optionalText(PROGRAM_TYPES.join('|'), PROGRAM_TYPES.map((type) => `"${type}"`).join(' or ')).describe(
      'By default, the type of the list',
    ),
  ),
  is_plugin: unused(optionalBoolean.describe('Accepted but not used, as in l3afd')),
  config_file_path: unused(freeText),
  cfg_version: unused(optionalInteger),
};

/** The payload of a program. */
export const programPayload = z.strictObject(
  { ...givenShape(PROGRAM_FIELDS), ...givenShape(COMPANION_FIELDS) },
  { error: 'an object with the fields of a program' },
);

/** The same without a position: probes are not chained. */
export const probePayload = programPayload.extend({
  seq_id: integer(0, MAX_SEQ_ID).nullish().describe('Ignored, since probes have no order'),
  prog_type: optionalText('[A-Za-z0-9_.-]{1,32}', 'a kind of probe, such as "kprobe"').describe(
    'Ignored, since the sections of its object file determine the kind of a probe; not a type of programs in chains',
  ),
});

/** The payload of a program or of a probe. */
export type ProgramPayload = Readonly<z.output<typeof probePayload>>;

/** A program as a command requests it and as the journal keeps it. */
export type Program = z.output<typeof programForm>;

export const programForm = keptForm({
  ...keptShape(PROGRAM_FIELDS),
  /** Absent if the payload names no command to run. */
  companion: z.exactOptional(companion),
  /** Where the program was in its payload (`0.bpf_programs.xdp_ingress.2`), so that later faults can name the field. */
  path: text,
  /** The unchanged payload of the program, for the snapshot. */
  payload: z.custom<Readonly<Record<string, unknown>>>(isObject, 'expected an object'),
});

/**
 * Converts a payload into a program.
 *
 * @param payload must be valid
 * @param path where it is: `0.bpf_programs.xdp_ingress.2`
 */
export function toProgram(payload: ProgramPayload, path: string): Program {
  return {
    ...readFields(PROGRAM_FIELDS, { ...payload, seq_id: payload.seq_id ?? 0 }),
    ...companionOf(payload),
    path,
    payload: withoutNulls(payload) as Readonly<Record<string, unknown>>,
  };
}

/** The companion, if there is anything to run in user space. */
function companionOf(payload: ProgramPayload): Pick<Program, 'companion'> {
  const companion = readFields(COMPANION_FIELDS, payload);
  const { cmdStart, cmdUpdate, updateArgs, cmdConfig } = companion;
  const updates = cmdUpdate !== '' && Object.keys(updateArgs).length > 0;
  return cmdStart !== '' || cmdConfig !== '' || updates ? { companion } : {};
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

/** What must be fetched for a program: one artifact of one version in one repository. */
export type PackageRef = Pick<Program, 'name' | 'version' | 'artifact' | 'repoUrl' | 'sha256'>;

/** Whether the program has no object file. Then its companion loads it and puts it into a handover slot. */
export function isSelfLoaded({ objectFile }: Pick<Program, 'objectFile'>): boolean {
  return objectFile === '';
}

/** The package of a program, without its other fields. */
export function packageOf({ name, version, artifact, repoUrl, sha256 }: PackageRef): PackageRef {
  return { name, version, artifact, repoUrl, ...(sha256 !== undefined && { sha256 }) };
}

/**
 * Identifies a program's code: two programs with the same digest run the same code. The digest is part of the pin path,
 * so that bpffs shows what runs, and nothing has to be remembered. It does not include map arguments, position and
 * status, because they change without a reload.
 *
 * @returns 16 lower-case hexadecimal digits
 */
export function contentDigest(program: PackageRef & Pick<Program, 'objectFile' | 'entryFunction' | 'mapName'>): string {
  const known = digests.get(program);
  if (known !== undefined) return known;
  const { name, version, artifact, repoUrl, sha256, objectFile, entryFunction, mapName } = program;
  const identity = JSON.stringify([name, version, artifact, repoUrl, sha256, objectFile, entryFunction, mapName]);
  const digest = createHash('sha256').update(identity).digest('hex').slice(0, 16);
  digests.set(program, digest);
  return digest;
}

/** Planning asks for each digest many times. Programs do not change. */
const digests = new WeakMap<object, string>();
