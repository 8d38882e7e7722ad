import { type DesiredState, normalize } from '../../src/domain/desired.js';
import type { ChainHook } from '../../src/domain/hook.js';
import type { Program } from '../../src/domain/program.js';
import { program } from '../support/chains.js';
import { desiredOf, TRANSITIONS } from './support-crash.js';
import type { Transition } from './support-faults.js';
import { withoutSlot } from './support-slotless.js';

/*
 * All kinds of changes that a command can make, at two hooks at once.
 */

type Hooks = readonly [ChainHook, ChainHook];

/** A program: its name and its special properties. `map_args` writes its number into its map. */
export type Member = readonly [name: string, overrides?: Partial<Program>];

export function chainAt(hook: ChainHook, ...members: readonly Member[]): DesiredState['chains'] {
  const mapArgs = [{ name: 'mark_id', args: [{ key: 0, value: 1 }] }];
  const of = ([name, overrides]: Member, index: number) =>
    program(name, index + 1, { mapArgs, ...overrides }, hook.direction);
  return [{ hook, programs: members.map(of) }];
}

export function state(...chains: readonly DesiredState['chains'][]): DesiredState {
  return normalize({ chains: chains.flat(), addresses: {} });
}

/** Values of an array and of a hash. Keys are added to and removed from the hash. */
function values(mark: number, paths: Readonly<Record<number, number>>): Partial<Program> {
  const entries = Object.entries(paths).map(([key, value]) => ({ key: Number(key), value }));
  return {
    mapArgs: [
      { name: 'mark_id', args: [{ key: 0, value: mark }] },
      { name: 'mark_paths', args: entries },
    ],
  };
}

/** Changes of every kind. */
export function transitionsAt(hooks: Hooks): Readonly<Record<string, Transition>> {
  const [first, second] = hooks;
  const beside = (version: string) => chainAt(second, ['s', { version }]);
  const change = (before: readonly Member[], desired: readonly Member[], chaining = true): Transition => ({
    chaining,
    before: state(chainAt(first, ...before), beside('1.0')),
    desired: state(chainAt(first, ...desired), beside('2.0')),
  });
  const basic = Object.entries(TRANSITIONS).map(([what, [from, to]]): [string, Transition] => {
    const mishap = { kind: 'none' } as const;
    const bringing = (chain: typeof from, version: string) =>
      desiredOf({ hooks }, { chaining: true, chains: [chain, [['s', version, true, 1]]], mishap });
    return [what, { chaining: true, before: bringing(from, '1.0'), desired: bringing(to, '2.0') }];
  });
  /** At TC hooks, x, y and z have no slot. */
  const of = (name: string, version = '1.0'): Member => [name, { version, ...withoutSlot(name, first) }];
  const [a, b, c] = [of('a'), of('b'), of('c')];
  return {
    ...Object.fromEntries(basic),
    'a first deploy on an empty host': {
      chaining: true,
      before: state(),
      desired: state(chainAt(first, a, b), beside('1.0')),
    },
    'a removal of all from all hooks': {
      chaining: true,
      before: state(chainAt(first, a, b), beside('1.0')),
      desired: state(),
    },
    'other content of the same version': change([a, b, c], [a, ['b', { artifact: 'other.tar.gz' }], c]),
    'an enabling': change([a, ['b', { enabled: false }], c], [a, b, c]),
    'a disabling of the only program': change([a], [['a', { enabled: false }]]),
    'a change of values that adds, alters and removes keys': change(
      [['a', values(1, { 1: 10, 2: 20 })], b],
      [['a', values(2, { 2: 21, 3: 30 })], b],
    ),
    'a new version that takes tables over': change(
      [a, b],
      [a, ['b', { version: '2.0', carryMaps: ['mark_seen', 'mark_paths'], ...values(3, { 5: 50 }) }]],
    ),
    'a chain with several links': change([a, of('x'), b, of('y'), c], [of('z'), c, of('y', '2.0'), b]),
    'a chain of one that becomes many': change([a], [['x'], a, b, c]),
    'a chain of many that becomes one': change([a, b, c], [b]),
    'a new version with chaining off': change([a], [['a', { version: '2.0' }]], false),
    'other content of the same version with chaining off': change([a], [['a', { artifact: 'o.zip' }]], false),
    'another program with chaining off': change([a], [b], false),
    'a first deploy with chaining off': {
      chaining: false,
      before: state(),
      desired: state(chainAt(first, a), beside('1.0')),
    },
    'a removal with chaining off': {
      chaining: false,
      before: state(chainAt(first, a), beside('1.0')),
      desired: state(),
    },
  };
}
