import type { z } from 'zod';
import { ATTACH_POINTS } from '../domain/attach-points/registry.js';
import { ATTACH_POINT_NAMES } from '../domain/hook.js';
import { isObject } from '../domain/json.js';
import { targetSegment } from '../domain/pins.js';
import { MAX_MAP_ENTRIES } from '../domain/program.js';
import type { ErrorCode } from '../errors.js';
import { expectation, type Path, shown } from './faults.js';

/*
 * The rules that span several fields. They accept a payload that may be wrong anywhere, so that everything that is
 * wrong is reported at once. A value of the wrong type is ignored here and reported by its schema.
 */

/** What a rule has found, with the place within the value that the rule checks. */
export interface Violation {
  readonly path: Path;
  readonly code: ErrorCode;
  readonly message: string;
}

export type Rule = (value: unknown) => readonly Violation[];

type Fields = Readonly<Record<string, unknown>>;

interface ListEntry {
  readonly path: Path;
  readonly fields: Fields;
}

/** NAME_MAX of include/uapi/linux/limits.h: the path becomes one segment of a path in bpffs. */
const LONGEST_SEGMENT = 255;

/** The possible values of `prog_type` in a chain. */
const PROGRAM_TYPES: ReadonlySet<unknown> = new Set(ATTACH_POINT_NAMES.map((name) => ATTACH_POINTS[name].programType));

/** Adds rules to the schema. They are checked whatever else is wrong. */
export function checked<T extends z.ZodType>(schema: T, ...rules: readonly Rule[]): T {
  return schema.superRefine(
    (value, context) => {
      for (const { path, code, message } of rules.flatMap((rule) => rule(value))) {
        context.addIssue({ code: 'custom', path: [...path], message, params: { code } });
      }
    },
    { when: () => true },
  );
}

/** A rule for an object with the fields of a program. Other values are ignored. */
function ofProgram(rule: (fields: Fields) => readonly Violation[]): Rule {
  return (program) => (isObject(program) ? rule(program) : []);
}

/** Checks a payload: every `host_name` must be the host's own name. */
export function checkHost(hostName: string): Rule {
  return (payload) =>
    entries(payload)
      .filter(({ fields }) => typeof fields.host_name === 'string' && fields.host_name !== hostName)
      .map(({ path, fields }) => ({
        path: [...path, 'host_name'],
        code: 'FOREIGN_HOST',
        message:
          `Expected host_name to be ${shown(hostName)}, the host to which this command was sent, ` +
          `got ${shown(fields.host_name)}`,
      }));
}

/** Checks a payload: at most one entry per interface. */
export const checkInterfaces: Rule = (payload) =>
  repeated(keyed(entries(payload), 'iface'), ({ path, key }) => ({
    path,
    code: 'DUPLICATE_NAME',
    message: `Expected one entry per interface, got a second one for ${shown(key)}; merge them`,
  }));

/** Checks a payload: each attach point is either for interfaces or for control groups. */
export const checkTargets: Rule = (payload) =>
  entries(payload).flatMap(({ path, fields: { iface, bpf_programs: lists } }): Violation[] => {
    if (typeof iface !== 'string') return [];
    const isGroup = iface.startsWith('/');
    const tooLong = `Expected iface to be a path of at most ${LONGEST_SEGMENT} characters, where each "/", "." and "%" counts as three, got more`;
    const misplaced = ATTACH_POINT_NAMES.map((name) => ATTACH_POINTS[name])
      .filter(({ payloadList, target }) => isFilled(fieldsOf(lists)[payloadList]) && isGroup !== (target === 'cgroup'))
      .map(({ payloadList, target }): Violation => {
        const whose = target === 'cgroup' ? 'control groups' : 'interfaces';
        const message = `Expected no programs in ${payloadList}, which is for ${whose}: iface is ${shown(iface)}`;
        return { path: [...path, 'bpf_programs', payloadList], code: 'INVALID_FIELD', message };
      });
    return targetSegment(iface).length > LONGEST_SEGMENT
      ? [{ path: [...path, 'iface'], code: 'INVALID_FIELD', message: tooLong }, ...misplaced]
      : misplaced;
  });

function isFilled(list: unknown): boolean {
  return Array.isArray(list) && list.length > 0;
}

/** Checks the programs at one hook. */
export function checkChain(kind: string): Rule {
  return (chain) => {
    const programs = entries(chain);
    return [
      ...repeated(keyed(programs, 'name'), duplicateName),
      ...repeated(keyed(programs, 'seq_id'), ({ path, key, fields }, first) => {
        const both = `${shown(first.fields.name)} and ${shown(fields.name)}`;
        const message = `Expected one program per seq_id in a chain, got ${shown(key)} for ${both}`;
        return { path, code: 'DUPLICATE_SEQ_ID', message };
      }),
      ...programs.flatMap(({ path, fields: { prog_type: type } }) =>
        PROGRAM_TYPES.has(type) && type !== kind
          ? [unexpected([...path, 'prog_type'], `"${kind}" in this list`, type)]
          : [],
      ),
    ];
  };
}

/** Checks the names to delete at one hook. */
export const checkNames: Rule = (names) => repeated(keyedItems(names, []), duplicateName);

/** Checks a program: arguments need the command that they are for. l3afd ignores them, or fails when it uses them. */
export const checkCompanion = ofProgram((fields) => {
  const needs = (field: string, why: string) =>
    isEmpty(fields[field]) ? [unexpected([field], why, fields[field])] : [];
  return [
    ...(fields.user_program_daemon === true ? needs('cmd_start', 'the program that is to keep running') : []),
    ...(Object.keys(fieldsOf(fields.update_args)).length > 0
      ? needs('cmd_update', 'the command that takes update_args')
      : []),
    ...(isEmpty(fields.rules) ? [] : needs('rules_file', 'the name of the file that rules are written to')),
  ];
});

/** Checks a program: it comes from an object file, or its companion loads it. */
export const checkObject = ofProgram((fields) => {
  if (isEmpty(fields.object_file)) {
    if (!isEmpty(fields.cmd_start)) return [];
    const expected = 'the object file of the program, or a cmd_start that loads it';
    return [unexpected(['object_file'], expected, fields.object_file)];
  }
  if (!isEmpty(fields.entry_function_name)) return [];
  const expected = "the name of the program's function in the object file";
  return [unexpected(['entry_function_name'], expected, fields.entry_function_name)];
});

/** Checks a program. */
export const checkMapArgs = ofProgram((fields) => {
  const base = ['map_args'];
  const maps = entries(fields.map_args, base);
  const total = maps.reduce((sum, map) => sum + items(map.fields.args).length, 0);
  const tooMany = `Expected at most ${MAX_MAP_ENTRIES} map entries per program, got ${total}`;
  return [
    ...(total > MAX_MAP_ENTRIES ? [{ path: base, code: 'INVALID_FIELD' as const, message: tooMany }] : []),
    ...repeated(keyed(maps, 'name'), duplicateName),
    ...maps.flatMap((map) =>
      repeated(keyed(entries(map.fields.args, [...map.path, 'args']), 'key'), ({ path, key }) => ({
        path,
        code: 'INVALID_FIELD',
        message: `Expected every key once per map, got ${shown(key)} twice`,
      })),
    ),
  ];
});

/**
 * Checks a program. Two entries for the same number would become one series. In a snapshot, other labels do not
 * separate them.
 */
export const checkMonitorMaps = ofProgram((fields) => {
  const numbers = entries(fields.monitor_maps, ['monitor_maps'])
    .filter(({ fields }) => ['name', 'key', 'aggregator'].every((name) => !isEmpty(fields[name])))
    .map(({ path, fields: { name, key, aggregator, field } }) => ({
      path,
      key: JSON.stringify([name, isScalar(key) ? String(key) : key, aggregator, isEmpty(field) ? '' : field]),
    }));
  return repeated(numbers, ({ path }) => ({
    path,
    code: 'INVALID_FIELD',
    message: 'Expected every combination of name, key, aggregator and field once, got one twice',
  }));
});

/**
 * Checks a probe: the fields that it needs, and those that it cannot have. The sections of its object say what it is
 * attached to. So its type is ignored, as l3afd does.
 */
export const checkProbe = ofProgram((fields) => {
  const { object_file: object, prog_type: type, map_name: slot } = fields;
  return [
    ...(isEmpty(object) ? [unexpected(['object_file'], 'the object file with the probes', object)] : []),
    ...(PROGRAM_TYPES.has(type)
      ? [
          unexpected(
            ['prog_type'],
            'a kind of probe, or absent, since programs in this list are not part of a chain',
            type,
          ),
        ]
      : []),
    ...(isEmpty(slot) ? [] : [unexpected(['map_name'], 'absent, since a probe has no successor', slot)]),
  ];
});

/** Checks a payload. Probes are not attached to an interface, so the lists of all entries count as one. */
export const checkProbes: Rule = (payload) =>
  repeated(
    keyed(
      probeLists(payload).flatMap(({ path, probes }) => entries(probes, path)),
      'name',
    ),
    duplicateName,
  );

/** Checks a payload with names of probes. */
export const checkProbeNames: Rule = (payload) =>
  repeated(
    probeLists(payload).flatMap(({ path, probes }) => keyedItems(probes, path)),
    duplicateName,
  );

function probeLists(payload: unknown): { path: Path; probes: unknown }[] {
  return entries(payload).map(({ path, fields }) => ({
    path: [...path, 'bpf_programs', 'probes'],
    probes: fieldsOf(fields.bpf_programs).probes,
  }));
}

function unexpected(path: Path, expected: string, value: unknown): Violation {
  return { path, code: 'INVALID_FIELD', message: expectation(path, expected, value) };
}

interface Keyed {
  readonly path: Path;
  readonly key: unknown;
}

function duplicateName({ path, key }: Keyed): Violation {
  return { path, code: 'DUPLICATE_NAME', message: `Expected every name once per list, got ${shown(key)} twice` };
}

/** The value of one field in every entry that has it. */
function keyed(list: readonly ListEntry[], field: string): (Keyed & ListEntry)[] {
  return list
    .filter(({ fields }) => isScalar(fields[field]))
    .map(({ path, fields }) => ({ path: [...path, field], key: fields[field], fields }));
}

/** The strings and numbers in a list. */
function keyedItems(list: unknown, path: Path): Keyed[] {
  return items(list).flatMap((key, index) => (isScalar(key) ? [{ path: [...path, index], key }] : []));
}

/** Calls back for every key that occurred before. 1 and "1" are the same key. */
function repeated<Item extends Keyed>(
  list: readonly Item[],
  violation: (item: Item, first: Item) => Violation,
): Violation[] {
  const seen = new Map<string, Item>();
  return list.flatMap((item) => {
    const key = String(item.key);
    const first = seen.get(key);
    if (first !== undefined) return [violation(item, first)];
    seen.set(key, item);
    return [];
  });
}

/** The objects in a list, each with its path. */
function entries(list: unknown, path: Path = []): ListEntry[] {
  return items(list).flatMap((value, index) => (isObject(value) ? [{ path: [...path, index], fields: value }] : []));
}

function items(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function fieldsOf(value: unknown): Fields {
  return isObject(value) ? value : {};
}

/** Only strings and numbers are compared: an object may not even be convertible to a string (`{"toString": null}`). */
function isScalar(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'number';
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}
