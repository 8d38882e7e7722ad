import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import { NOTHING_DESIRED } from '../../src/domain/desired.js';
import type { Direction } from '../support/directions.js';

import { repeats } from '../support/repeats.js';
import {
  type CrashBed,
  type Member,
  type Mishap,
  m,
  of,
  roundArbitrary,
  survive,
  surviveRounds,
  TRANSITIONS,
} from './support-crash.js';

const BPFFS = '/bpffs';

function bedAt(...directions: Direction[]): CrashBed {
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  return { datapath, bpffs: BPFFS, hooks: directions.map((direction) => ({ iface: 'veth0', direction })) };
}

/** The change at the other hook by the same command. */
const BESIDE = { from: [['s', '1.0', true, 1]], to: [['s', '2.0', true, 2]] } as const;

const fails = (at: number): Mishap => ({ kind: 'fails', at });
const dies = (at: number): Mishap => ({ kind: 'dies', at, after: true, repairs: true });

/** Both at each step; in a short run, one of both in turn. */
const MISHAPS: Readonly<Record<string, (at: number) => Mishap>> =
  repeats({ usual: 1, full: 2 }) === 2
    ? { 'that fails': fails, 'after which the agent dies and its successor repairs first': dies }
    : { 'that fails, or after which the agent dies, in turns': (at) => (at % 2 === 0 ? fails(at) : dies(at)) };

/** At TC hooks, where programs x, y and z have no slot. */
const SLOTLESS: Readonly<Record<string, readonly [from: readonly Member[], to: readonly Member[]]>> = {
  'an insertion at the head': [of('yz'), of('xyz')],
  'an insertion in the middle': [of('ab'), of('axb')],
  'a removal in the middle': [of('axb'), of('ab')],
  'a reorder': [of('axby'), of('ybxa')],
  'a new version': [of('xyz'), [m('x'), m('y', '2.0'), m('z')]],
  'everything at once': [of('axbyc'), [m('z'), ['c', '1.0', true, 9], m('y', '2.0'), m('b')]],
};

const ALL = [
  ...Object.entries(TRANSITIONS).map(([what, change]) => [what, change, 'xdpingress'] as const),
  ...Object.entries(SLOTLESS).map(([what, change]) => [`${what} without slots`, change, 'ingress'] as const),
];

for (const [what, [from, to], direction] of ALL) {
  describe(`${what} at two hooks`, () => {
    for (const [how, mishapAt] of Object.entries(MISHAPS)) {
      test(`survives each step ${how}`, async () => {
        for (let at = 0, more = true; more; at += 1) {
          const bed = bedAt(direction, 'egress');
          const mishap: Mishap = { kind: 'none' };
          const { desired: before } = await survive(bed, NOTHING_DESIRED, {
            chaining: true,
            chains: [from, BESIDE.from],
            mishap,
          });
          const { struck } = await survive(bed, before, {
            chaining: true,
            chains: [to, BESIDE.to],
            mishap: mishapAt(at),
          });
          assert.ok(struck || at > 0, 'no step at all');
          more = struck;
        }
      });
    }
  });
}

describe('after any changes with any faults or crashes the chains are as desired, and nothing is left over,', () => {
  for (const directions of [
    ['xdpingress', 'ingress'],
    // These two hooks share the directory of their public names.
    ['ingress', 'egress'],
  ] as const) {
    test(`at ${directions.join(' and ')}`, async () => {
      const rounds = fc.array(roundArbitrary(directions.length), { minLength: 1, maxLength: 6 });
      await fc.assert(
        fc.asyncProperty(rounds, (all) => surviveRounds(bedAt(...directions), all)),
        { numRuns: repeats({ usual: 6, full: 30 }) },
      );
    });
  }
});
