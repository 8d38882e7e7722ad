import type { Fault } from '../errors.js';
import { faultAt, type Path, shown, unexpected } from './faults.js';
import { MAX_MAP_ENTRIES } from './payload.js';

/*
 * The rules that span several fields. They look at a payload that may be wrong anywhere,
 * so that everything that is wrong is reported at once: a value of the wrong type is passed over here and reported by
 * its schema.
 */

/** The lists of programs, and the `prog_type` that fits them. */
const LISTS = [
  ['xdp_ingress', 'xdp'],
  ['tc_ingress', 'tc'],
  ['tc_egress', 'tc'],
] as const;

const OPTION_FIELDS = ['start_args', 'stop_args', 'status_args', 'update_args', 'config_args'] as const;
const OPTION_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const OPTION_NAMES = 'names of 1 to 64 letters, digits, ".", "_" and "-" that begin with a letter or digit';

type Fields = Readonly<Record<string, unknown>>;

export interface Entry {
  readonly path: Path;
  readonly fields: Fields;
}

/** Of a `deploy` or `add`. */
export function checkPrograms(payload: unknown, hostName: string): Fault[] {
  return [
    ...checkInterfaces(payload, hostName),
    ...entries(payload, []).flatMap((entry) => {
      const lists = listsOf(entry);
      return LISTS.flatMap(([list, type]) => checkChain(entries(lists.fields[list], [...lists.path, list]), type));
    }),
  ];
}

/** Of a `delete`. */
export function checkNames(payload: unknown, hostName: string): Fault[] {
  return [
    ...checkInterfaces(payload, hostName),
    ...entries(payload, []).flatMap((entry) => {
      const lists = listsOf(entry);
      return LISTS.flatMap(([list]) => {
        const names = items(lists.fields[list])
          .map((key, index) => ({ path: [...lists.path, list, index], key }))
          .filter(({ key }) => isScalar(key));
        return repeated(names, ({ path, key }) => duplicateName(path, key));
      });
    }),
  ];
}

function checkInterfaces(payload: unknown, hostName: string): Fault[] {
  const list = entries(payload, []);
  const foreign = list
    .filter(({ fields }) => typeof fields.host_name === 'string' && fields.host_name !== hostName)
    .map(({ path, fields }) =>
      faultAt(
        [...path, 'host_name'],
        'FOREIGN_HOST',
        `Expected host_name to be ${shown(hostName)}, the host that this command was sent to, ` +
          `got ${shown(fields.host_name)}`,
      ),
    );
  const twice = repeated(keyed(list, 'iface'), ({ path, key }) =>
    faultAt(path, 'DUPLICATE_NAME', `Expected one entry per interface, got another for ${shown(key)}; join the two`),
  );
  return [...foreign, ...twice];
}

function checkChain(programs: readonly Entry[], type: 'xdp' | 'tc'): Fault[] {
  return [
    ...repeated(keyed(programs, 'name'), ({ path, key }) => duplicateName(path, key)),
    ...repeated(keyed(programs, 'seq_id'), ({ path, key, fields }, first) => {
      const both = `${shown(first.fields.name)} and ${shown(fields.name)}`;
      return faultAt(
        path,
        'DUPLICATE_SEQ_ID',
        `Expected one program per seq_id in a chain, got ${shown(key)} for ${both}`,
      );
    }),
    ...programs.flatMap((program) => [
      ...checkType(program, type),
      ...checkCompanion(program),
      ...checkObject(program),
      ...checkMapArgs(program),
      ...checkMonitorMaps(program),
    ]),
  ];
}

function checkType({ path, fields }: Entry, type: 'xdp' | 'tc'): Fault[] {
  const other = type === 'xdp' ? 'tc' : 'xdp';
  if (fields.prog_type !== other) return [];
  return [unexpected([...path, 'prog_type'], `"${type}" in this list`, other)];
}

/** What is given for a command that is not there. l3afd passes over it, or fails when it comes to it. */
export function checkCompanion({ path, fields }: Entry): Fault[] {
  const needs = (field: string, why: string) => {
    return isEmpty(fields[field]) ? [unexpected([...path, field], why, fields[field])] : [];
  };
  return [
    ...(fields.user_program_daemon === true ? needs('cmd_start', 'the program that is to keep running') : []),
    ...(Object.keys(fieldsOf(fields.update_args)).length > 0
      ? needs('cmd_update', 'the command that takes update_args')
      : []),
    ...(isEmpty(fields.rules) ? [] : needs('rules_file', 'the name of the file that rules are written to')),
    ...OPTION_FIELDS.flatMap((field) =>
      Object.keys(fieldsOf(fields[field]))
        .filter((name) => !OPTION_NAME.test(name))
        .map((name) => {
          const message = `Expected the options in ${field} to have ${OPTION_NAMES}, got ${shown(name)}`;
          return faultAt([...path, field], 'INVALID_FIELD', message);
        }),
    ),
  ];
}

/** A program comes from an object file, or its companion loads it. */
function checkObject({ path, fields }: Entry): Fault[] {
  if (isEmpty(fields.object_file)) {
    if (!isEmpty(fields.cmd_start)) return [];
    const expected = 'the object file of the program, or a cmd_start that loads it';
    return [unexpected([...path, 'object_file'], expected, fields.object_file)];
  }
  if (!isEmpty(fields.entry_function_name)) return [];
  const expected = 'the name of the function in the object file that is the program';
  return [unexpected([...path, 'entry_function_name'], expected, fields.entry_function_name)];
}

export function checkMapArgs({ path, fields }: Entry): Fault[] {
  const base = [...path, 'map_args'];
  const maps = entries(fields.map_args, base);
  const total = maps.reduce((sum, map) => sum + items(map.fields.args).length, 0);
  const tooMany =
    total > MAX_MAP_ENTRIES
      ? [faultAt(base, 'INVALID_FIELD', `Expected at most ${MAX_MAP_ENTRIES} map entries per program, got ${total}`)]
      : [];
  return [
    ...tooMany,
    ...repeated(keyed(maps, 'name'), ({ path, key }) => duplicateName(path, key)),
    ...maps.flatMap((map) =>
      repeated(keyed(entries(map.fields.args, [...map.path, 'args']), 'key'), ({ path, key }) =>
        faultAt(path, 'INVALID_FIELD', `Expected every key once per map, got another ${shown(key)}`),
      ),
    ),
  ];
}

/** Two entries for one number would be one series; further labels do not tell them apart in a snapshot. */
export function checkMonitorMaps({ path, fields }: Entry): Fault[] {
  const numbers = entries(fields.monitor_maps, [...path, 'monitor_maps'])
    .filter(({ fields }) => ['name', 'key', 'aggregator'].every((name) => !isEmpty(fields[name])))
    .map(({ path, fields: { name, key, aggregator, field } }) => ({
      path,
      key: JSON.stringify([name, isScalar(key) ? String(key) : key, aggregator, isEmpty(field) ? '' : field]),
    }));
  return repeated(numbers, ({ path }) =>
    faultAt(path, 'INVALID_FIELD', 'Expected every name, key, aggregator and field once together, got them twice'),
  );
}

export function duplicateName(path: Path, name: unknown): Fault {
  return faultAt(path, 'DUPLICATE_NAME', `Expected every name once per list, got another ${shown(name)}`);
}

interface Keyed {
  readonly path: Path;
  readonly key: unknown;
}

/** The value of one field in every entry that has it. */
export function keyed(list: readonly Entry[], field: string): (Keyed & Entry)[] {
  return list
    .filter(({ fields }) => isScalar(fields[field]))
    .map(({ path, fields }) => ({ path: [...path, field], key: fields[field], fields }));
}

/** One fault for every key that was there before; 1 and "1" are the same key. */
export function repeated<Item extends Keyed>(
  list: readonly Item[],
  fault: (item: Item, first: Item) => Fault,
): Fault[] {
  const seen = new Map<string, Item>();
  return list.flatMap((item) => {
    const key = String(item.key);
    const first = seen.get(key);
    if (first !== undefined) return [fault(item, first)];
    seen.set(key, item);
    return [];
  });
}

export function listsOf({ path, fields }: Entry): Entry {
  return { path: [...path, 'bpf_programs'], fields: fieldsOf(fields.bpf_programs) };
}

/** The objects in a list, each with its path. */
export function entries(list: unknown, path: Path): Entry[] {
  return items(list).flatMap((value, index) =>
    isObject(value) ? [{ path: [...path, index], fields: fieldsOf(value) }] : [],
  );
}

export function items(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function fieldsOf(value: unknown): Fields {
  return isObject(value) ? value : {};
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Only texts and numbers are compared: an object may not even have a text (`{"toString": null}`). */
export function isScalar(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'number';
}

export function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}
