import { AgentError } from '../errors.js';
import { type Field, fieldNamed, fieldNames, type Layout } from './layout.js';
import { hasNumbers, isHashOfNumbers, mapTypeName } from './map-types.js';
import { encodeKey, type MapShape, type Named, named, namesThere } from './mapvalue.js';
import type { MapValue, MonitoredMap } from './program.js';
import { inBytes } from './scalar.js';

/*
 * From a payload's `monitor_maps` to the reads of a map, and from raw bytes back to numbers.
 */

/** Stands for all keys of a map. */
const ALL_KEYS = '*';
/** How many keys are read at most if all keys of a map are requested. */
export const MOST_KEYS = 256;

/** The position of a number in the bytes of a value. */
export interface NumberPlace {
  /** From the beginning of the value, in bytes. */
  readonly offset: number;
  /** 1, 2, 4 or 8 bytes. */
  readonly size: number;
  readonly signed: boolean;
  /** In network order. */
  readonly network: boolean;
}

/** One `monitor_maps` entry in terms of its map. */
export interface MonitorTarget {
  /** Undefined: all keys. */
  readonly key: Buffer | undefined;
  readonly number: NumberPlace;
  /**
   * Whether the agent creates the key, so that the program can count under it. As in l3afd, it is created with 0, in
   * hash maps whose values are numbers.
   */
  readonly isMade: boolean;
}

/** Whether two lists of entries are equal. */
export function sameMonitors(
  one: readonly MonitoredMap[] | undefined,
  other: readonly MonitoredMap[] | undefined,
): boolean {
  return JSON.stringify(one ?? []) === JSON.stringify(other ?? []);
}

/**
 * Checks that all entries can be read from a program's maps.
 *
 * @param path of the program's payload: '', or with a dot at its end
 * @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID with the path of the field
 */
export function checkMonitors(
  maps: readonly MapShape[],
  monitors: readonly MonitoredMap[] | undefined,
  path: string,
): void {
  for (const [index, monitored] of (monitors ?? []).entries()) {
    const at = `${path}monitor_maps.${index}`;
    const found = named(maps, monitored.name);
    if (found === undefined) {
      const message = `The program has no map ${monitored.name} to monitor; it has ${namesThere(maps)}`;
      throw new AgentError('MAP_NOT_FOUND', message, { path: `${at}.name` });
    }
    targetOf(found, monitored, at);
  }
}

/**
 * Resolves an entry for the map or the global variable that it names.
 *
 * @param path of the entry: `0.bpf_programs.xdp_ingress.2.monitor_maps.0`
 * @throws AgentError MAP_VALUE_INVALID with the path of the field that does not fit
 */
export function targetOf(
  { map, variable }: Named<MapShape>,
  { key, field }: Pick<MonitoredMap, 'key' | 'field'>,
  path: string,
): MonitorTarget {
  const why = whyUnreadable(map);
  if (why !== undefined) {
    throw new AgentError('MAP_VALUE_INVALID', `${map.name} ${why}; it cannot be monitored`, { path: `${path}.name` });
  }
  const number = placeOf(map, variable, field, `${path}.field`);
  if (key === ALL_KEYS) return { key: undefined, number, isMade: false };
  const raw = encodeKey(map, key, { path: `${path}.key`, what: `a key of ${map.name}` });
  // A struct of zeros might have a meaning for the program.
  return { key: raw, number, isMade: isHashOfNumbers(map.type) && number.size === map.valueSize };
}

function whyUnreadable({ type, access }: MapShape): string | undefined {
  if (!hasNumbers(type)) return `is of map type ${type} (${mapTypeName(type)}), which holds no numbers by keys`;
  return access === 'write'
    ? 'is declared with BPF_F_WRONLY: user space may only write it, and its program reads the entries'
    : undefined;
}

/**
 * The keys that must exist before a program sees its first packet, since it may count only under keys that exist.
 *
 * @param maps those of the program
 * @param path of the program's payload: '', or with a dot at its end
 * @returns for each map its raw keys in hexadecimal, without duplicates; only maps with such keys
 */
export function keysToMake<Shape extends MapShape>(
  maps: readonly Shape[],
  monitors: readonly MonitoredMap[] | undefined,
  path = '',
): { readonly map: Shape; readonly keys: readonly string[] }[] {
  const keys = new Map<Shape, Set<string>>();
  for (const [index, monitored] of (monitors ?? []).entries()) {
    const found = named(maps, monitored.name);
    if (found === undefined || found.map.access === 'read') continue;
    const { key, isMade } = targetOf(found, monitored, `${path}monitor_maps.${index}`);
    if (!isMade || key === undefined) continue;
    const known = keys.get(found.map) ?? new Set();
    keys.set(found.map, known.add(key.toString('hex')));
  }
  return [...keys].map(([map, each]) => ({ map, keys: [...each] }));
}

function placeOf(map: MapShape, variable: Field | undefined, field: string, path: string): NumberPlace {
  // If BTF and kernel disagree about the size of the value, only the size counts.
  const known = map.value?.size === map.valueSize ? map.value : undefined;
  let [layout, offset, what]: [Layout | undefined, number, string] =
    variable === undefined
      ? [known, 0, `a value of ${map.name}`]
      : [variable.layout, variable.bitOffset / 8, `the variable ${variable.name}`];
  for (const name of field === '' ? [] : field.split('.')) {
    const inner = layout === undefined ? undefined : innerOf(layout, name);
    if (inner === undefined) {
      const message = `There is no number ${name} in ${what}; it has ${fieldsOf(layout).join(', ') || 'no known fields'}`;
      throw new AgentError('MAP_VALUE_INVALID', message, { path });
    }
    [layout, offset, what] = [inner.layout, offset + inner.offset, `${name} of ${what}`];
  }
  const size = layout?.size ?? map.valueSize;
  if (layout === undefined && isNumberSize(size)) return { offset, size, signed: false, network: false };
  if (layout !== undefined && (layout.kind === 'int' || layout.kind === 'enum') && isNumberSize(size)) {
    return { offset, size, signed: layout.signed, network: layout.network };
  }
  const fields = fieldsOf(layout);
  const remedy = fields.length === 0 ? '' : `; name one of its numbers in field: ${fields.join(', ')}`;
  throw new AgentError('MAP_VALUE_INVALID', `${what} is not a number: it has ${inBytes(size)}${remedy}`, { path });
}

function isNumberSize(size: number): boolean {
  return size === 1 || size === 2 || size === 4 || size === 8;
}

function innerOf(layout: Layout, name: string): { layout: Layout; offset: number } | undefined {
  if (layout.kind === 'struct' || layout.kind === 'union') {
    const field = fieldNamed(layout, name);
    return field === undefined || field.bits !== undefined
      ? undefined
      : { layout: field.layout, offset: field.bitOffset / 8 };
  }
  if (layout.kind !== 'array' || !/^[0-9]{1,9}$/.test(name) || Number(name) >= layout.length) return undefined;
  return { layout: layout.element, offset: Number(name) * layout.element.size };
}

/** The names of fields or indices within a value. */
function fieldsOf(layout: Layout | undefined): readonly string[] {
  if (layout?.kind === 'array') return [`0 to ${layout.length - 1}`];
  if (layout?.kind !== 'struct' && layout?.kind !== 'union') return [];
  return fieldNames(layout).filter((name) => fieldNamed(layout, name)?.bits === undefined);
}

/**
 * The number in a value as user space reads it. For a per-CPU map, it is the sum over all CPUs. Exact up to 2^53.
 *
 * @param stride from one CPU's value to the next, in bytes; the value's own length if there is only one
 */
export function numberIn(value: Uint8Array, stride: number, { offset, size, signed, network }: NumberPlace): number {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const little = !network;
  let sum = 0;
  for (let at = offset; at + size <= value.byteLength; at += stride) {
    if (size === 8) {
      const high = at + (little ? 4 : 0);
      const low = at + (little ? 0 : 4);
      const top = signed ? view.getInt32(high, little) : view.getUint32(high, little);
      sum += top * 2 ** 32 + view.getUint32(low, little);
    } else if (size === 4) sum += signed ? view.getInt32(at, little) : view.getUint32(at, little);
    else if (size === 2) sum += signed ? view.getInt16(at, little) : view.getUint16(at, little);
    else sum += signed ? view.getInt8(at) : view.getUint8(at);
  }
  return sum;
}

/** A key as a label shows it: as it was given. */
export function keyInWords(key: MapValue): string {
  return typeof key === 'object' ? JSON.stringify(key) : String(key);
}

/** A key that was found in a map: a number, a text, the fields of a struct, or its bytes. */
export function rawKeyInWords({ key: layout, keySize }: MapShape, raw: Uint8Array): string {
  return layout?.size === keySize ? keyInWords(valueIn(layout, raw)) : keyInWords(valueIn(undefined, raw));
}

function valueIn(layout: Layout | undefined, raw: Uint8Array): MapValue {
  const size = raw.length;
  if (isNumberSize(size)) {
    if (layout === undefined) return numberIn(raw, size, { offset: 0, size, signed: false, network: false });
    if (layout.kind === 'int' || layout.kind === 'enum')
      return numberIn(raw, size, { offset: 0, size, signed: layout.signed, network: layout.network });
  }
  if (layout?.kind === 'array' && layout.text) return textOf(raw);
  if (layout?.kind === 'struct' && layout.fields.every(({ name, bits }) => name !== '' && bits === undefined)) {
    return Object.fromEntries(
      layout.fields.map((field) => {
        const at = field.bitOffset / 8;
        return [field.name, valueIn(field.layout, raw.subarray(at, at + field.layout.size))];
      }),
    );
  }
  return `0x${Buffer.from(raw).toString('hex')}`;
}

/** The text up to the terminating zero. If it contains other than printable characters, its bytes. */
function textOf(raw: Uint8Array): string {
  const end = raw.indexOf(0);
  const text = Buffer.from(end === -1 ? raw : raw.subarray(0, end)).toString('latin1');
  return /^[ -~]*$/.test(text) ? text : `0x${Buffer.from(raw).toString('hex')}`;
}
