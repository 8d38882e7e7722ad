import { AgentError } from '../errors.js';
import type { Layout } from './layout.js';
import { encodeKey, type MapShape } from './mapvalue.js';
import { mapSegment } from './pins.js';
import type { MapValue, MonitoredMap } from './program.js';
import { inBytes } from './scalar.js';

/*
 * From a payload's `monitor_maps` to what is read of a map, and from raw bytes back to numbers.
 */

/** Stands for every key that is in a map. */
const ALL_KEYS = '*';
/** Of a map of which all keys are wanted, so many are read. */
export const MOST_KEYS = 256;

/** A number in the bytes of a value. */
export interface NumberPlace {
  /** From the beginning of the value, in bytes. */
  readonly offset: number;
  /** 1, 2, 4 or 8 bytes. */
  readonly size: number;
  readonly signed: boolean;
  /** In network order. */
  readonly network: boolean;
}

/** One `monitor_maps` entry in terms of the map that it is about. */
export interface MonitorTarget {
  /** Undefined: all keys. */
  readonly key: Buffer | undefined;
  readonly number: NumberPlace;
  /** Whether the key is to be there for the program to count under: l3afd makes it, with 0, in hash maps whose values are numbers. */
  readonly isMade: boolean;
}

/** HASH, PERCPU_HASH, LRU_HASH and LRU_PERCPU_HASH of `enum bpf_map_type`. */
const MADE_KINDS: readonly number[] = [1, 5, 9, 10];

/** Kinds that hold numbers by keys (`enum bpf_map_type`): HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE. */
const NUMBER_KINDS: readonly number[] = [1, 2, 5, 6, 9, 10, 11];

/** Whether two lists of entries ask for the same. */
export function sameMonitors(
  one: readonly MonitoredMap[] | undefined,
  other: readonly MonitoredMap[] | undefined,
): boolean {
  return JSON.stringify(one ?? []) === JSON.stringify(other ?? []);
}

/**
 * That all entries can be read of a program's maps.
 *
 * @param path of the program's payload, '' or with a dot at its end
 * @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID with the path of the field
 */
export function checkMonitors(
  maps: readonly MapShape[],
  monitors: readonly MonitoredMap[] | undefined,
  path: string,
): void {
  for (const [index, monitored] of (monitors ?? []).entries()) {
    const at = `${path}monitor_maps.${index}`;
    const map = maps.find(({ name }) => mapSegment(name) === mapSegment(monitored.name));
    if (map === undefined) {
      const there = maps.map(({ name }) => name).join(', ') || 'none';
      const message = `The program has no map ${monitored.name} to monitor; it has ${there}`;
      throw new AgentError('MAP_NOT_FOUND', message, { path: `${at}.name` });
    }
    targetOf(map, monitored, at);
  }
}

/**
 * What an entry means for the map that it names.
 *
 * @param path of the entry: `0.bpf_programs.xdp_ingress.2.monitor_maps.0`
 * @throws AgentError MAP_VALUE_INVALID with the path of the field that does not fit
 */
export function targetOf(map: MapShape, { key, field }: MonitoredMap, path: string): MonitorTarget {
  if (!NUMBER_KINDS.includes(map.type)) {
    const message = `${map.name} is of map type ${map.type}, which holds no numbers by keys; it cannot be monitored`;
    throw new AgentError('MAP_VALUE_INVALID', message, { path: `${path}.name` });
  }
  const number = placeOf(map, field, `${path}.field`);
  if (key === ALL_KEYS) return { key: undefined, number, isMade: false };
  const raw = encodeKey(map, key, { path: `${path}.key`, what: `a key of ${map.name}` });
  // A struct of zeros might mean something to the program.
  return { key: raw, number, isMade: MADE_KINDS.includes(map.type) && number.size === map.valueSize };
}

function placeOf(map: MapShape, field: string, path: string): NumberPlace {
  // Of a map whose BTF tells of another size than the kernel, the size alone counts.
  const known = map.value?.size === map.valueSize ? map.value : undefined;
  let [layout, offset, what]: [Layout | undefined, number, string] = [known, 0, `a value of ${map.name}`];
  for (const name of field === '' ? [] : field.split('.')) {
    const inner = layout === undefined ? undefined : innerOf(layout, name);
    if (inner === undefined) {
      const message = `There is no number ${name} in ${what}; it has ${fieldsOf(layout).join(', ') || 'no fields that are known'}`;
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
  throw new AgentError('MAP_VALUE_INVALID', `${what} is no number, but has ${inBytes(size)}${remedy}`, { path });
}

function isNumberSize(size: number): boolean {
  return size === 1 || size === 2 || size === 4 || size === 8;
}

function innerOf(layout: Layout, name: string): { layout: Layout; offset: number } | undefined {
  if (layout.kind === 'struct') {
    const field = layout.fields.find((other) => other.name === name && other.bits === undefined);
    return field === undefined ? undefined : { layout: field.layout, offset: field.bitOffset / 8 };
  }
  if (layout.kind !== 'array' || !/^[0-9]{1,9}$/.test(name) || Number(name) >= layout.length) return undefined;
  return { layout: layout.element, offset: Number(name) * layout.element.size };
}

/** What can be named within a value. */
function fieldsOf(layout: Layout | undefined): readonly string[] {
  if (layout?.kind === 'array') return [`0 to ${layout.length - 1}`];
  if (layout?.kind !== 'struct') return [];
  return layout.fields.filter(({ name, bits }) => name !== '' && bits === undefined).map(({ name }) => name);
}

/**
 * The number in a value as user space reads it: of a per-CPU map the sum over all CPUs. Exact up to 2^53.
 *
 * @param stride from one CPU's value to the next, in bytes; the value's own length where there is only one
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

/** Up to the zero at its end; what is not printable stands as its bytes. */
function textOf(raw: Uint8Array): string {
  const end = raw.indexOf(0);
  const text = Buffer.from(end === -1 ? raw : raw.subarray(0, end)).toString('latin1');
  return /^[ -~]*$/.test(text) ? text : `0x${Buffer.from(raw).toString('hex')}`;
}
