import { ATTACH_POINTS } from '../../../src/domain/attach-points/registry.js';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import type { Direction } from '../../support/directions.js';
import { type PackageName, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { repeats } from '../../support/repeats.js';
import type { Lists, Stage } from './stage.js';

/*
 * The changes of a chain, at its head, in its middle and at its tail: the programs before and after, and the commands.
 */

/** A change of the chain of one hook. Programs are in the order of their `seq_id`. */
export interface Change {
  readonly direction: Direction;
  readonly from: readonly PayloadProgram[];
  readonly to: readonly PayloadProgram[];
}

/** A transition from one state to another and back. */
export interface Transition {
  readonly what: string;
  /** Changes at one hook or at several. */
  readonly changes: readonly Change[];
  /** How often the transition happens in each direction. */
  readonly times: number;
  readonly there: (stage: Stage) => Promise<Acknowledgement>;
  readonly back: (stage: Stage) => Promise<Acknowledgement>;
}

/** How often each kind of change happens at each place. */
const REPETITIONS = repeats({ usual: 4, full: 50 });

/** The index of the changed program, in a chain of four and in a chain of three. */
const PLACES = [
  { place: 'head', ofFour: 0, ofThree: 0 },
  { place: 'middle', ofFour: 1, ofThree: 1 },
  { place: 'tail', ofFour: 3, ofThree: 2 },
] as const;

/** Programs are added at every place of the chain at one hook, and removed again. */
export function arrivalsAt(direction: Direction): Transition[] {
  return PLACES.flatMap(({ place, ofFour }) => {
    const withFour = chainOf(direction, [1, 2, 3].toSpliced(ofFour, 0, 4));
    return [
      insertion(`insert and remove, ${place}`, { direction, to: withFour, at: ofFour }),
      byDeploys(`enable and disable, ${place}`, [enabling(direction, withFour, ofFour)], REPETITIONS),
    ];
  });
}

/** Programs swap places, or are replaced, at every place of the chain at one hook. */
export function replacementsAt(direction: Direction): Transition[] {
  return PLACES.flatMap(({ place, ofFour, ofThree }) => [
    byDeploys(`reorder, ${place}`, [swap(direction, Math.min(ofFour, 2))], REPETITIONS / 2),
    byDeploys(`version change, ${place}`, [versionChange(direction, ofThree)], REPETITIONS / 2),
  ]);
}

function insertion(
  what: string,
  { direction, to, at }: { direction: Direction; to: readonly PayloadProgram[]; at: number },
): Transition {
  const newcomer = to[at]!;
  return {
    what,
    changes: [{ direction, from: to.toSpliced(at, 1), to }],
    times: REPETITIONS,
    there: (stage) => stage.add(listed(direction, [newcomer])),
    back: (stage) => stage.delete(listed(direction, [newcomer.name])),
  };
}

/** Two neighbours in a chain of four swap places. */
function swap(direction: Direction, at: number): Change {
  const from = chainOf(direction, [1, 2, 3, 4]);
  const [first, second] = [from[at]!, from[at + 1]!];
  const swapped = [
    { ...second, seq_id: first.seq_id },
    { ...first, seq_id: second.seq_id },
  ];
  return { direction, from, to: from.toSpliced(at, 2, ...swapped) };
}

/** One program in a chain of three gets a new version. */
export function versionChange(direction: Direction, at: number): Change {
  return contentChange(chainOf(direction, [1, 2, 3]), { direction, at, fields: { version: '2.0' } });
}

/** One program in a chain gets other content. Its counters continue, and its mark shows which content ran. */
export function contentChange(
  chain: readonly PayloadProgram[],
  { direction, at, fields }: { direction: Direction; at: number; fields: Partial<PayloadProgram> },
): Change {
  const carrying = { ...chain[at]!, carry_maps: ['mark_seen', 'mark_paths'] };
  const other = { ...carrying, ...fields, map_args: markArgs(10 + markOf(carrying)) };
  return { direction, from: chain.with(at, carrying), to: chain.with(at, other) };
}

function enabling(direction: Direction, to: readonly PayloadProgram[], at: number): Change {
  return { direction, from: to.with(at, { ...to[at]!, admin_status: 'disabled' }), to };
}

/** A transition by deploys. */
export function byDeploys(what: string, changes: readonly Change[], times: number): Transition {
  return {
    what,
    changes,
    times,
    there: (stage) => deploySide(stage, changes, 'to'),
    back: (stage) => deploySide(stage, changes, 'from'),
  };
}

/** Deploys only one side of the changes. */
export function deploySide(stage: Stage, changes: readonly Change[], side: 'from' | 'to'): Promise<Acknowledgement> {
  const lists = changes.map((change) => listed(change.direction, change[side]));
  return stage.deploy(Object.assign({}, ...lists) as Lists<PayloadProgram>);
}

const LIST = { xdpingress: 'xdp_ingress', ingress: 'tc_ingress', egress: 'tc_egress' } as const;

/** Programs or names in the payload's list for a hook. */
export function listed<Item>(direction: Direction, items: readonly Item[]): Lists<Item> {
  return { [LIST[direction]]: items };
}

/** Numbered markers in this order. */
export function chainOf(direction: Direction, numbers: readonly number[]): PayloadProgram[] {
  const kind = ATTACH_POINTS[direction].programType;
  return numbers.map((number, index) =>
    payloadProgram(`${kind}-mark-${number}` as PackageName, { seq_id: 10 * (index + 1) }),
  );
}

/** The `map_args` that make a marker write this number into a probe's trail. */
function markArgs(number: number) {
  return [{ name: 'mark_id', args: [{ key: 0, value: number }] }];
}

function markOf({ map_args: mapArgs }: PayloadProgram): number {
  return Number(mapArgs[0]?.args[0]?.value);
}

export function running(programs: readonly PayloadProgram[]): PayloadProgram[] {
  return programs.filter(({ admin_status: status }) => status === 'enabled');
}

/** The path of a packet through these programs, as markers write it: `1-2-3`. It ends with `last`, if given. */
export function wayThrough(programs: readonly PayloadProgram[], last?: string): string {
  const chain = running(programs);
  const end = chain.findIndex(({ name }) => name === last);
  return chain
    .slice(0, end === -1 ? chain.length : end + 1)
    .map(markOf)
    .join('-');
}

/**
 * Names of the programs at the start and at the end of a chain that are the same before and after. The agent must not
 * touch them.
 */
export function untouchedBy({ from, to }: Change): string[] {
  const [old, wanted] = [running(from), running(to)];
  const untouched = [...commonBeginning(old, wanted), ...commonBeginning(old.toReversed(), wanted.toReversed())];
  return [...new Set(untouched.map(({ name }) => name))];
}

function commonBeginning(chain: readonly PayloadProgram[], other: readonly PayloadProgram[]) {
  const end = chain.findIndex((program, index) => codeOf(program) !== codeOf(other[index]));
  return end === -1 ? chain : chain.slice(0, end);
}

/** The fields that select a program's code, as one string. */
function codeOf(program: PayloadProgram | undefined): string {
  const keys = [
    'name',
    'version',
    'artifact',
    'ebpf_package_repo_url',
    'object_file',
    'entry_function_name',
    'map_name',
  ];
  return JSON.stringify(program, keys);
}
