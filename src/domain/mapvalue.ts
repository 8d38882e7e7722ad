import { AgentError } from '../errors.js';
import { parseAddress } from './address.js';
import { type Field, fieldNamed, fieldNames, isConstantSection, sectionOf } from './layout.js';
import { isArrayKind, isCpumap, isDevmap, isIndexed, isLpmTrie, isPerCpuKind, whyUnwritable } from './map-types.js';
import type { MapInfo } from './observed.js';
import { mapSegment } from './pins.js';
import type { MapArgs, MapValue } from './program.js';
import { inBytes, invalid, parseBytes, showValue, unexpected, type ValuePlace } from './scalar.js';
import { encodeValue } from './structvalue.js';

/*
 * Encodes a payload's `map_args` as the raw bytes of a map's keys and values.
 */

/** What encoding needs to know of a map. */
export type MapShape = Omit<MapInfo, 'id'>;

/** Raw bytes in hexadecimal, without prefix. */
export interface RawEntry {
  readonly key: string;
  readonly value: string;
  /** For a global variable: where in the map's value these bytes are. Absent for a whole value. */
  readonly offset?: number;
  /** For a map of interfaces: why the entry cannot be written now. The kernel takes only interfaces that exist. */
  readonly waits?: { readonly why: string; readonly path: string };
}

/** The interfaces of this host, name to index. */
export type Interfaces = ReadonlyMap<string, number>;

/** A map that a payload names, or one of the global variables in it. */
export interface Named<Shape> {
  readonly map: Shape;
  readonly variable?: Field;
}

/** The only key of a map of global variables. */
export const SECTION_KEY = '00000000';

/**
 * Finds what a name in `map_args` or `monitor_maps` means: a map, or else a global variable of the program's object,
 * which libbpf keeps in a map for each section.
 */
export function named<Shape extends MapShape>(maps: readonly Shape[], name: string): Named<Shape> | undefined {
  const map = maps.find((other) => mapSegment(other.name) === mapSegment(name));
  if (map !== undefined) return { map };
  for (const section of maps) {
    const variable = variableOf(section, name);
    if (variable !== undefined) return { map: section, variable };
  }
  return undefined;
}

function variableOf({ value }: MapShape, name: string): Field | undefined {
  return value?.kind === 'struct' && value.section !== undefined ? fieldNamed(value, name) : undefined;
}

/** The names of maps and of their global variables, for a message. */
export function namesThere(maps: readonly MapShape[]): string {
  const names = maps.flatMap(({ name, value }) =>
    value?.kind === 'struct' && value.section !== undefined ? [name, ...fieldNames(value)] : [name],
  );
  return names.join(', ') || 'none';
}

/** Size in bytes of one CPU's value in what user space reads and writes (kernel/bpf/syscall.c, bpf_map_value_size). */
export function perCpuValueSize(valueSize: number): number {
  return Math.ceil(valueSize / 8) * 8;
}

/**
 * Encodes the entries that a payload wants in a map, as bytes of the map's key and value size. {@link encodeValue}
 * describes the values that fit the types in the map's BTF, or the size alone if there is no BTF. In addition:
 *
 *   keys of an LPM trie          `<address>/<length>`, or the whole key
 *   values of a per-CPU map      one value for all CPUs, or a list with one value for each possible CPU
 *   values of a DEVMAP           the index or the name of an interface, or a struct with it
 *   global variables             by their own name, under the key 0; or an object with some variables of a section
 *
 * @param args their name is that of the map, or of a variable in it
 * @param path where the arguments are in the payload: `0.bpf_programs.xdp_ingress.2.map_args.0`
 * @returns for a per-CPU map, either one value of the map's value size for all CPUs, or a value for each CPU in the
 *   form that the kernel takes
 * @throws AgentError MAP_VALUE_INVALID for a value that does not fit, and for a map that takes no entries; nothing is
 *   ever truncated
 */
export function encodeMapArgs(
  map: MapShape,
  args: MapArgs,
  path: string,
  interfaces: Interfaces = new Map(),
): RawEntry[] {
  if (args.args.length > 0) checkWritable(map, path);
  const isSection = sectionOf(map) !== undefined;
  const variable = mapSegment(args.name) === mapSegment(map.name) ? undefined : variableOf(map, args.name);
  const entries = args.args.flatMap(({ key, value }, index): RawEntry[] => {
    const at = `${path}.args.${index}`;
    const what = variable === undefined ? map.name : args.name;
    const rawKey = encodeKey(map, key, { path: `${at}.key`, what: `a key of ${what}` }).toString('hex');
    const place = { path: `${at}.value`, what: `a value of ${what}` };
    if (variable !== undefined) return [variableEntry(variable, value, place)];
    if (isSection && isObject(value)) return sectionEntries(map, value, place);
    if (isDevmap(map.type) && isForwarding(map)) return [interfaceEntry(map, rawKey, value, place, interfaces)];
    return [{ key: rawKey, value: encodeEntryValue(map, value, place).toString('hex') }];
  });
  // Two texts may mean the same key (16 and 0x10). The later entry wins, as if they were written one after the other.
  const byKey = new Map(entries.map((entry) => [`${entry.key} ${entry.offset ?? ''}`, entry]));
  const keys = new Set(entries.map(({ key }) => key));
  if (keys.size > map.maxEntries) {
    const message = `${map.name} holds at most ${map.maxEntries} entries, got ${keys.size}`;
    throw new AgentError('MAP_VALUE_INVALID', message, { path: `${path}.args` });
  }
  return [...byKey.values()];
}

/**
 * The entries that new maps begin with, as {@link encodeMapArgs} encodes them.
 *
 * @throws AgentError MAP_VALUE_INVALID, also for an interface that this host does not have, unless the entry may wait
 */
export function fillingOf(
  map: MapShape,
  args: MapArgs & { readonly path: string; readonly mayWait?: true },
  interfaces: Interfaces,
): RawEntry[] {
  const entries = encodeMapArgs(map, args, args.path, interfaces);
  if (args.mayWait) return entries.filter(({ waits }) => waits === undefined);
  const waiting = entries.find(({ waits }) => waits !== undefined)?.waits;
  if (waiting !== undefined) throw invalid(waiting.why, waiting);
  return entries;
}

function checkWritable(map: MapShape, path: string): void {
  const why =
    whyUnwritable(map.type) ??
    (map.access === 'read'
      ? 'is declared with BPF_F_RDONLY: user space may only read it, and its program writes the entries'
      : undefined) ??
    (sectionOf(map) === '.kconfig' ? "holds the kernel's configuration, which libbpf sets" : undefined);
  if (why === undefined) return;
  throw new AgentError('MAP_VALUE_INVALID', `${map.name} ${why}; map_args cannot fill it`, { path: `${path}.name` });
}

function isObject(value: MapValue): value is { readonly [field: string]: MapValue } {
  return typeof value === 'object' && !Array.isArray(value);
}

function variableEntry({ bitOffset, layout }: Field, value: MapValue, place: ValuePlace): RawEntry {
  const raw = encodeValue(layout, layout.size, value, place);
  return { key: SECTION_KEY, value: raw.toString('hex'), offset: bitOffset / 8 };
}

/** Only the given variables: an object has variables that are nobody else's business. */
function sectionEntries(map: MapShape, value: { readonly [field: string]: MapValue }, place: ValuePlace): RawEntry[] {
  return Object.entries(value).map(([name, one]) => {
    const variable = variableOf(map, name);
    const at = { path: `${place.path}.${name}`, what: `the variable ${name}` };
    if (variable !== undefined) return variableEntry(variable, one, at);
    throw invalid(`${map.name} has no variable ${name}; it has ${namesThere([map])}`, at);
  });
}

/**
 * An entry of a DEVMAP or DEVMAP_HASH: the index of an interface, or `struct bpf_devmap_val` with an index and a program
 * (include/uapi/linux/bpf.h). A program is given as a file descriptor, which only a process has.
 */
function interfaceEntry(
  map: MapShape,
  key: string,
  given: MapValue,
  place: ValuePlace,
  interfaces: Interfaces,
): RawEntry {
  const value = isObject(given) && map.valueSize === 8 ? { bpf_prog: '0x00000000', ...given } : given;
  const target = isObject(value) ? value.ifindex : value;
  const name = typeof target === 'string' && !/^(-?[0-9]|0x)/i.test(target) ? target : undefined;
  const index = name === undefined ? undefined : interfaces.get(name);
  const by = (one: MapValue) => (isObject(value) ? { ...value, ifindex: one } : one);
  const written = name === undefined ? value : by(index ?? 1);
  const raw =
    isObject(written) || name === undefined ? encodeEntryValue(map, written, place) : indexOnly(map, index ?? 1);
  if (raw.length === 8 && raw.readInt32LE(4) > 0) {
    const message = `The program in ${place.what} is a file descriptor of a process, which no payload can have`;
    throw invalid(`${message}; leave bpf_prog out`, place);
  }
  if (raw.length === 8) raw.writeInt32LE(0, 4);
  const number = raw.readUInt32LE(0);
  if (number === 0) throw invalid(`0 is the index of no interface, but ${place.what} needs one`, place);
  const isThere = name === undefined ? [...interfaces.values()].includes(number) : index !== undefined;
  const why = `${place.what.replace(/^a/, 'A')} is for the interface ${name ?? `with index ${number}`}, which this host does not have`;
  return { key, value: raw.toString('hex'), ...(!isThere && { waits: { why, path: place.path } }) };
}

function indexOnly({ valueSize }: MapShape, index: number): Buffer {
  const raw = Buffer.alloc(valueSize);
  raw.writeUInt32LE(index);
  return raw;
}

/**
 * Encodes a key from a payload.
 *
 * @throws AgentError MAP_VALUE_INVALID for a key that the map cannot have
 */
export function encodeKey(map: MapShape, key: MapValue, place: ValuePlace): Buffer {
  if (isLpmTrie(map.type)) return encodePrefix(map, key, place);
  const raw = encodeValue(map.key, map.keySize, key, place);
  if (!isIndexed(map.type)) return raw;
  if (raw.length !== 4 || raw.readUInt32LE() >= map.maxEntries) {
    const last = map.maxEntries - 1;
    const kind = isArrayKind(map.type) ? 'the array ' : '';
    throw invalid(`${showValue(key)} is not a key of ${kind}${map.name}, whose keys go from 0 to ${last}`, place);
  }
  return raw;
}

/**
 * Whether a map holds an entry already.
 *
 * @param stored what {@link StoredEntries} say
 */
export function holds(map: MapShape, { value, offset }: RawEntry, stored: string | null | undefined): boolean {
  if (stored === null || stored === undefined) return false;
  if (offset !== undefined) return stored.slice(offset * 2, offset * 2 + value.length) === value;
  if (!isPerCpuKind(map.type) || value.length !== map.valueSize * 2) return stored === value;
  // One value for all CPUs. What is behind the value of a CPU, up to the next 8 bytes, is not written by anybody.
  const stride = perCpuValueSize(map.valueSize) * 2;
  const values = Array.from({ length: stored.length / stride }, (_, cpu) => stored.substr(cpu * stride, value.length));
  return values.every((one) => one === value);
}

/** Whether a map holds what was fixed when its program was loaded. */
export function isConstant(map: MapShape): boolean {
  return isConstantSection(sectionOf(map));
}

function encodeEntryValue(map: MapShape, value: MapValue, place: ValuePlace): Buffer {
  const { valueSize } = map;
  if (!isPerCpuKind(map.type) || !Array.isArray(value)) {
    // A section can also be given byte by byte or, if it has the size of a number, as one.
    const raw = encodeValue(sectionOf(map) === undefined ? map.value : undefined, valueSize, value, place);
    if (!isCpumap(map.type) || !isForwarding(map)) return raw;
    if (raw.readUInt32LE(0) > 0) return withoutProgram(raw, place);
    throw invalid(`The kernel takes a queue of 0 packets as none, but ${place.what} needs one`, place);
  }
  const cpus = map.cpus ?? 1;
  if (value.length !== cpus) {
    const message = `Expected one value for all CPUs or a list of ${cpus}, one for each possible CPU, as ${place.what}`;
    throw invalid(`${message}; got ${showValue(value)}`, place);
  }
  const values = (value as readonly MapValue[]).map((one, cpu) => {
    const at = { path: `${place.path}.${cpu}`, what: `${place.what} for CPU ${cpu}` };
    const raw = encodeValue(map.value, valueSize, one, at);
    return Buffer.concat([raw, Buffer.alloc(perCpuValueSize(valueSize) - valueSize)]);
  });
  return Buffer.concat(values);
}

/** Whether values have a size that maps of interfaces and CPUs can have: a number, or a number and a program. */
function isForwarding({ valueSize }: MapShape): boolean {
  return valueSize === 4 || valueSize === 8;
}

/** `struct bpf_cpumap_val` may name a program by a file descriptor as well. */
function withoutProgram(raw: Buffer, place: ValuePlace): Buffer {
  if (raw.length !== 8) return raw;
  if (raw.readInt32LE(4) > 0) {
    const message = `The program in ${place.what} is a file descriptor of a process, which no payload can have`;
    throw invalid(`${message}; give 0`, place);
  }
  raw.writeInt32LE(0, 4);
  return raw;
}

/**
 * The canonical form of an LPM trie's key: the bits after the prefix are 0. The kernel treats keys that only differ in
 * these bits as equal (trie_update_elem in kernel/bpf/lpm_trie.c).
 *
 * @param key `struct bpf_lpm_trie_key`: the prefix length as u32 in host order, then the address
 */
export function canonicalPrefix(key: Buffer): Buffer {
  const length = key.readUInt32LE();
  return Buffer.from(key.map((byte, index) => (index < 4 ? byte : byte & maskOf(length - (index - 4) * 8))));
}

/** @param bits how many leading bits of a byte are kept */
function maskOf(bits: number): number {
  return bits >= 8 ? 0xff : bits <= 0 ? 0 : (0xff << (8 - bits)) & 0xff;
}

function encodePrefix({ key: layout, keySize }: MapShape, key: MapValue, place: ValuePlace): Buffer {
  const raw =
    parseBytes(key, keySize) ?? (typeof key === 'object' ? encodeValue(layout, keySize, key, place) : undefined);
  const prefix = raw ?? parsePrefix(key, keySize, place);
  const longest = (keySize - 4) * 8;
  if (prefix.length <= 4) throw invalid(`${place.what} has ${inBytes(keySize)}, too few for a prefix`, place);
  const length = prefix.readUInt32LE();
  if (length > longest)
    throw invalid(`The prefix length of ${showValue(key)} is ${length}, more than ${longest}`, place);
  return canonicalPrefix(prefix);
}

function parsePrefix(key: MapValue, keySize: number, place: ValuePlace): Buffer {
  const [, address = '', length = ''] = /^([^/]+)\/([0-9]{1,3})$/.exec(typeof key === 'string' ? key : '') ?? [];
  const bytes = parseAddress(address);
  if (bytes === undefined || bytes.length !== keySize - 4) {
    const family = keySize === 8 ? 'IPv4 ' : keySize === 20 ? 'IPv6 ' : '';
    const example = keySize === 20 ? '2001:db8::/32' : '10.0.0.0/8';
    throw unexpected(`an ${family}prefix like ${example}`, key, keySize, place);
  }
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32LE(Number(length));
  return Buffer.concat([prefix, bytes]);
}
