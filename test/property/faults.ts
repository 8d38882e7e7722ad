import type { PackageName } from '../support/packages.js';
import { payloadProgram } from '../support/packages.js';
import { codeOf, kindOf, type List, type Wire } from './codes.js';
import type { ModelCommand, Place } from './model.js';

/*
 * Makes every kind of faulty command from a valid one: the fault, where it is, and the expected answer.
 */

export type Fault = NonNullable<ModelCommand['fault']>;

/** An entry of a payload. */
export interface Entry {
  readonly host_name: string;
  readonly iface: string;
  readonly ipv4_address: string;
  readonly bpf_programs: Readonly<Partial<Record<List | 'probes', readonly unknown[]>>>;
}

/** A valid deploy or add, and the program that gets the fault. That program is enabled and new to the host. */
export interface Sound {
  readonly payload: readonly Entry[];
  readonly place: Place;
  /** Path of the program. */
  readonly entry: number;
  readonly position: number;
  readonly program: Wire;
  readonly verifies: boolean;
}

export interface Spoilt {
  readonly body: Uint8Array;
  readonly fault: Fault;
}

type Spoil = (sound: Sound) => Spoilt | undefined;

/** A fault in one or several fields of the program. */
function field(
  status: 'rejected' | 'failed',
  code: string,
  change: (program: Wire, list: List) => object,
  at: string,
): Spoil {
  return (sound) => {
    const spoilt = { ...sound.program, ...change(sound.program, sound.place.list) };
    return { body: bytes(withProgram(sound, () => [spoilt])), fault: { status, code, path: pathOf(sound, at) } };
  };
}

/** A fault in the payload around the program. */
function around(code: string, change: (sound: Sound) => unknown, status: 'rejected' | 'failed' = 'rejected'): Spoil {
  return (sound) => ({ body: bytes(change(sound)), fault: { status, code } });
}

export const FAULTS: Readonly<Record<string, Spoil>> = {
  'no JSON': ({ payload }) => ({
    body: bytes(payload).subarray(0, -1),
    fault: { status: 'rejected', code: 'INVALID_JSON' },
  }),
  'no list': around('INVALID_FIELD', ({ payload }) => ({ payload })),
  'another host': around('FOREIGN_HOST', ({ payload }) =>
    payload.map((entry) => ({ ...entry, host_name: 'elsewhere' })),
  ),
  'an interface twice': around('DUPLICATE_NAME', ({ payload, entry }) => [...payload, payload[entry]]),
  'an unknown list': around('UNKNOWN_FIELD', (sound) => withLists(sound, (lists) => ({ ...lists, xdp_egress: [] }))),
  'a probe with a place in a chain': around('INVALID_FIELD', (sound) =>
    withLists(sound, (lists) => ({ ...lists, probes: [{ ...sound.program, seq_id: 0 }] })),
  ),
  'an unknown interface': (sound) => {
    const absent = withEntry(sound, (entry) => ({ ...entry, iface: 'nowhere0' }));
    return {
      body: bytes(absent),
      fault: { status: 'failed', code: 'INTERFACE_NOT_FOUND', path: `${sound.entry}.iface` },
    };
  },
  'a chain of 34': around('INVALID_FIELD', (sound) =>
    withProgram(sound, (program) =>
      Array.from({ length: 34 }, (_, n) => ({ ...program, name: `m${n}`, seq_id: 1000 + n })),
    ),
  ),
  'a seq_id twice': around('DUPLICATE_SEQ_ID', (sound) =>
    withProgram(sound, (program) => [program, { ...program, name: 'twin' }]),
  ),
  'a name twice': around('DUPLICATE_NAME', (sound) =>
    withProgram(sound, (program) => [program, { ...program, seq_id: program.seq_id + 1 }]),
  ),
  'no slot in the middle': (sound) => {
    const [first, second] = [
      { ...sound.program, map_name: '' },
      { ...sound.program, name: 'behind', seq_id: sound.program.seq_id + 1 },
    ];
    // For TC programs there are other ways to set the order.
    if (sound.place.list !== 'xdp_ingress') return undefined;
    return {
      body: bytes(withProgram(sound, () => [first, second])),
      fault: { status: 'rejected', code: 'INVALID_FIELD', path: pathOf(sound, 'map_name') },
    };
  },
  'an unknown field': field('rejected', 'UNKNOWN_FIELD', () => ({ colour: 'blue' }), 'colour'),
  'a seq_id below 0': field('rejected', 'INVALID_FIELD', () => ({ seq_id: -1 }), 'seq_id'),
  'a seq_id that is text': field('rejected', 'INVALID_FIELD', () => ({ seq_id: 'first' }), 'seq_id'),
  'no name': field('rejected', 'INVALID_FIELD', () => ({ name: undefined }), 'name'),
  "a root's name": field('rejected', 'INVALID_FIELD', (_, list) => ({ name: `${kindOf(list)}-root` }), 'name'),
  'a version that is a path': field('rejected', 'INVALID_FIELD', () => ({ version: '../1.0' }), 'version'),
  'an artifact elsewhere': field('rejected', 'INVALID_FIELD', () => ({ artifact: '../a.tar.gz' }), 'artifact'),
  'a third status': field('rejected', 'INVALID_FIELD', () => ({ admin_status: 'paused' }), 'admin_status'),
  'the other type': field(
    'rejected',
    'INVALID_FIELD',
    (_, list) => ({ prog_type: kindOf(list) === 'xdp' ? 'tc' : 'xdp' }),
    'prog_type',
  ),
  'a map twice': field(
    'rejected',
    'DUPLICATE_NAME',
    () => ({ map_args: ['m', 'm'].map((name) => ({ name, args: [] })) }),
    'map_args.1.name',
  ),
  'a key twice': field('rejected', 'INVALID_FIELD', () => given('mark_id', 0, 1, 0, 2), 'map_args.0.args.1.key'),
  'no such version': field('failed', 'ARTIFACT_NOT_FOUND', () => ({ version: '9.9' }), 'artifact'),
  'no such artifact': field('failed', 'ARTIFACT_NOT_FOUND', () => ({ artifact: 'nowhere.tar.gz' }), 'artifact'),
  'no such object file': field('failed', 'OBJECT_FILE_NOT_FOUND', () => ({ object_file: 'no.bpf.o' }), 'object_file'),
  'no such function': field(
    'failed',
    'ENTRY_FUNCTION_NOT_FOUND',
    () => ({ entry_function_name: 'nothing' }),
    'entry_function_name',
  ),
  'no such slot': field('failed', 'SLOT_INVALID', () => ({ map_name: 'nothing_next' }), 'map_name'),
  'a slot that is none': field(
    'failed',
    'SLOT_INVALID',
    (program, list) => ({ map_name: cellOf(program, list) }),
    'map_name',
  ),
  'no such map': field('failed', 'MAP_NOT_FOUND', () => given('nothing', 0, 1), 'map_args'),
  'a value too large': field(
    'failed',
    'MAP_VALUE_INVALID',
    (program, list) => given(cellOf(program, list), 0, '18446744073709551616'),
    'map_args',
  ),
  'a key that is a word': field(
    'failed',
    'MAP_VALUE_INVALID',
    (program, list) => given(cellOf(program, list), 'first', 1),
    'map_args',
  ),
  'code that the verifier refuses': (sound) => {
    if (!sound.verifies || sound.place.list !== 'xdp_ingress') return undefined;
    const { seq_id } = sound.program;
    const broken = payloadProgram('broken' as PackageName, { seq_id });
    return {
      body: bytes(withProgram(sound, () => [broken])),
      fault: { status: 'failed', code: 'VERIFIER_REJECTED', path: pathOf(sound) },
    };
  },
};

/** An array map of the program. */
function cellOf(program: Wire, list: List): string {
  const { maps } = codeOf(list, program);
  return Object.keys(maps).find((name) => maps[name] === 'array') ?? '';
}

function given(name: string, ...pairs: readonly (number | string)[]): Pick<Wire, 'map_args'> {
  const args = pairs.flatMap((key, index) => (index % 2 === 0 ? [{ key, value: pairs[index + 1] ?? 0 }] : []));
  return { map_args: [{ name, args }] };
}

function pathOf({ entry, position, place }: Sound, at?: string): string {
  return [entry, 'bpf_programs', place.list, position, ...(at === undefined ? [] : [at])].join('.');
}

function withEntry({ payload, entry }: Sound, change: (entry: Entry) => unknown): unknown[] {
  return payload.map((other, index) => (index === entry ? change(other) : other));
}

function withLists(sound: Sound, change: (lists: Entry['bpf_programs']) => unknown): unknown[] {
  return withEntry(sound, (entry) => ({ ...entry, bpf_programs: change(entry.bpf_programs) }));
}

/** Replaces the program by others. Those behind it get higher positions. */
function withProgram(sound: Sound, change: (program: Wire) => readonly unknown[]): unknown[] {
  const { list } = sound.place;
  return withLists(sound, (lists) => ({
    ...lists,
    [list]: (lists[list] ?? []).flatMap((program, index) =>
      index === sound.position ? change(program as Wire) : [program],
    ),
  }));
}

function bytes(payload: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(payload));
}
