import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import type { Direction } from '../../support/directions.js';
import { existing } from '../../support/kernel-ids.js';
import type { PackageSpec } from '../../support/packages.js';
import type { Traffic } from '../../support/traffic.js';
import { loadedMap, mapOf } from './chain.js';
import { type Member, numberIn, pathsIn } from './kernel.js';
import { eventually, PROBE_PORT, Stage } from './stage.js';
import { type Change, deploySide, running, type Transition, untouchedBy, wayThrough } from './transition-kinds.js';

/*
 * Chains change again and again while packets pass. Every packet is a probe that records its path. So the test knows
 * for each packet whether it passed the old chain or the new one, and whether each program in both has seen it once.
 */

/** Packets per second, in each direction. */
const RATE = 4_000;

/** Counts of the packets at one hook during one transition. */
interface Count {
  readonly hook: Direction;
  readonly what: string;
  readonly commands: number;
  /** Packets that have reached the hook. */
  readonly packets: number;
  /** Programs that run before and after. */
  readonly survivors: number;
  /** Packets that have passed the whole old chain, and packets that have passed the whole new one. */
  readonly oldWay: number;
  readonly newWay: number;
  /** Packets that have not reached a survivor, summed over the survivors. */
  readonly unseen: number;
  /** Packets that have passed a program twice. */
  readonly twice: number;
}

export interface Transitions {
  readonly host: string;
  readonly title: string;
  readonly packages?: readonly PackageSpec[];
  readonly env?: Readonly<Record<string, string>>;
  readonly all: (stage: Stage) => readonly Transition[] | Promise<readonly Transition[]>;
}

/** Defines a test that runs transitions, each under traffic, and reports the counts as a table. */
export function testTransitions({ host, title, packages = [], env = {}, all }: Transitions): void {
  describe(host, () => {
    let stage: Stage;
    before(async () => {
      stage = await Stage.open({ host, packages, env });
    });
    after(() => stage.close());

    test(title, async (t) => {
      const counts: Count[] = [];
      for (const transition of await all(stage)) {
        await t.test(transition.what, async () => {
          const counted = await repeat(stage, transition);
          counts.push(...counted);
          for (const count of counted) assertExact(count);
        });
      }
      for (const line of table(counts)) t.diagnostic(line);
    });
  });
}

function assertExact(count: Count): void {
  const { packets, oldWay, newWay, unseen, twice } = count;
  const what = JSON.stringify(count);
  assert.deepEqual([unseen, twice], [0, 0], what);
  assert.equal(oldWay + newWay, packets, what);
  assert.ok(oldWay > 0 && newWay > 0, what);
}

/** Changes from the old state to the new one and back, repeatedly and under traffic. */
async function repeat(stage: Stage, transition: Transition): Promise<Count[]> {
  await stage.deploy({});
  assert.equal((await deploySide(stage, transition.changes, 'from')).status, 'applied');
  const traffic = await TwoWayTraffic.start(
    stage,
    transition.changes.map(({ direction }) => direction),
  );

  const answers: Acknowledgement[] = [];
  const visits: Visits[] = [];
  for (let time = 1; time <= transition.times; time++) {
    answers.push(await transition.there(stage));
    visits.push(await visitsTo(stage, transition.changes));
    answers.push(await transition.back(stage));
  }
  const packets = await traffic.stop();

  for (const { status, message } of answers) assert.equal(status, 'applied', message);
  return Promise.all(
    transition.changes.map(async (change) => {
      const members = (await stage.chain(change.direction))!.members.slice(1);
      assertLeastChange(change, answers, members);
      const seenByVisitor = visits.flatMap((visit) => [visit.get(change) ?? {}]);
      const result = { members, packets: packets(change.direction), commands: answers.length, seenByVisitor };
      return countAt(stage, { what: transition.what, change }, result);
    }),
  );
}

/** Sends probes into our interface, out of it, or both, depending on the hooks. */
class TwoWayTraffic {
  readonly #stage: Stage;
  readonly #streams: Readonly<Partial<Record<Way, Traffic>>>;
  readonly #lostBefore: number;

  private constructor(stage: Stage, streams: Readonly<Partial<Record<Way, Traffic>>>, lostBefore: number) {
    this.#stage = stage;
    this.#streams = streams;
    this.#lostBefore = lostBefore;
  }

  static async start(stage: Stage, hooks: readonly Direction[]): Promise<TwoWayTraffic> {
    const lost = await stage.bed.lost();
    const ways = new Set(hooks.map(wayOf));
    const streams = [...ways].map(async (way) => [
      way,
      await stage.startTraffic(PROBE_PORT, RATE, way === 'out' ? 'egress' : 'ingress'),
    ]);
    return new TwoWayTraffic(stage, Object.fromEntries(await Promise.all(streams)), lost);
  }

  /** @returns how many probes have reached a hook */
  async stop(): Promise<(hook: Direction) => number> {
    const [inward, outward] = [await this.#streams.in?.stop(), await this.#streams.out?.stop()];
    // Packets that are lost on the wire towards us have not reached the hook. Outgoing packets pass the hook first.
    const lost = (await this.#stage.bed.lost()) - this.#lostBefore;
    return (hook) => (wayOf(hook) === 'in' ? (inward ?? 0) - lost : (outward ?? 0));
  }
}

type Way = 'in' | 'out';

function wayOf(hook: Direction): Way {
  return hook === 'egress' ? 'out' : 'in';
}

/** For each change that adds a program at the tail: how many packets have reached that program, by path. */
type Visits = ReadonlyMap<Change, Readonly<Record<string, number>>>;

/**
 * Reads the counts of visitors: programs that are added at the tail and then removed. Their counts are lost with them,
 * so this reads just before the removal. (If the test kept a map open, the agent would wait for it and report that the
 * removal is incomplete.)
 */
async function visitsTo(stage: Stage, changes: readonly Change[]): Promise<Visits> {
  const visits = new Map<Change, Readonly<Record<string, number>>>();
  for (const change of changes) {
    const visitor = visitorOf(change);
    if (visitor === undefined) continue;
    visits.set(change, await pathsIn(await loadedMap(stage, change.direction, visitor, 'mark_paths')));
  }
  return visits;
}

/**
 * The last of the programs that are added behind all survivors; undefined if there are none. The survivors cannot tell
 * whether it is present.
 */
function visitorOf({ from, to }: Change): string | undefined {
  return wayThrough(to).startsWith(`${wayThrough(from)}-`) ? running(to).at(-1)!.name : undefined;
}

/** Checks that untouched programs were loaded only once, and that no replaced program is left. */
function assertLeastChange(change: Change, answers: readonly Acknowledgement[], members: readonly Member[]): void {
  const told = answers
    .flatMap(({ programs }) => programs)
    .filter(({ direction, prog_id: id }) => direction === change.direction && id !== undefined);
  for (const untouched of untouchedBy(change)) {
    const loads = new Set(told.filter(({ name }) => name === untouched).map(({ prog_id: id }) => id));
    assert.equal(loads.size, 1, `loads of ${untouched}`);
  }
  const standing = members.map(({ programId }) => programId);
  const replaced = new Set(told.map(({ prog_id: id }) => id!).filter((id) => !standing.includes(id)));
  assert.deepEqual(existing('prog', replaced), [], 'programs that were replaced and are left');
}

interface Result {
  /** The chain at the end, without the root. */
  readonly members: readonly Member[];
  readonly packets: number;
  readonly commands: number;
  readonly seenByVisitor: readonly Readonly<Record<string, number>>[];
}

async function countAt(
  stage: Stage,
  { what, change }: { what: string; change: Change },
  { members, packets, commands, seenByVisitor }: Result,
): Promise<Count> {
  const last = members.at(-1)!;
  const seenBy = async (member: Member) => (await numberIn(mapOf(stage, member, 'mark_seen'))) ?? 0;
  await eventually(
    () => seenBy(last),
    (seen) => seen >= packets,
    `${last.name} should see ${packets} packets`,
  );
  const seen = await Promise.all(members.map(seenBy));

  const seenByMembers = await Promise.all(members.map((member) => pathsIn(mapOf(stage, member, 'mark_paths'))));
  const ways = sumUp([...seenByMembers, ...seenByVisitor]);
  const [oldChain, newChain] = [wayThrough(change.from), wayThrough(change.to)];
  const isOnTheWay = (way: string) => [oldChain, newChain].some((whole) => `${whole}-`.startsWith(`${way}-`));
  const astray = [...ways.keys()].filter((way) => !isOnTheWay(way) && !repeatsItself(way));
  assert.deepEqual(astray, [], 'packets that have gone neither the old way nor the new one');
  const [oldWay, newWay] = [change.from, change.to].map(
    (programs) => ways.get(wayThrough(programs, last.name)) ?? 0,
  ) as [number, number];
  const visited = ways.get(newChain) ?? 0;
  // Packets that a visitor saw between the reading and its removal count as packets of the old chain.
  const split = visitorOf(change) === undefined ? { oldWay, newWay } : { oldWay: oldWay - visited, newWay: visited };
  return {
    hook: change.direction,
    what,
    commands,
    packets,
    survivors: members.length,
    ...split,
    unseen: seen.reduce((sum, count) => sum + packets - count, 0),
    twice: [...ways].reduce((sum, [way, count]) => sum + (repeatsItself(way) ? count : 0), 0),
  };
}

function sumUp(maps: readonly Readonly<Record<string, number>>[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const [way, count] of maps.flatMap(Object.entries<number>)) sums.set(way, (sums.get(way) ?? 0) + count);
  return sums;
}

function repeatsItself(way: string): boolean {
  const marks = way.split('-');
  return new Set(marks).size < marks.length;
}

function table(counts: readonly Count[]): string[] {
  const head = ['hook', 'transition', 'commands', 'packets', 'survivors', 'old way', 'new way', 'unseen', 'twice'];
  const rows = counts.map((count) => Object.values<string | number>({ ...count }));
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
}
