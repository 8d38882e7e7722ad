import type { ChainHook } from '../../src/domain/hook.js';
import type { Program } from '../../src/domain/program.js';
import { launchOf } from '../support/companions.js';
import type { Transition } from './support-faults.js';
import { selfLoaded } from './support-loading.js';
import { chainAt, type Member, state } from './support-transitions.js';

/*
 * All kinds of changes to programs that their companions load, and to companions of programs that the agent loads.
 */

/** Changes at one hook. The other hook changes too. */
export function selfLoadingAt([first, second]: readonly [ChainHook, ChainHook]): Readonly<Record<string, Transition>> {
  const beside = (version: string) => chainAt(second, ['s', { version }]);
  const change = (before: readonly Member[], desired: readonly Member[], chaining = true): Transition => ({
    chaining,
    before: state(chainAt(first, ...before), beside('1.0')),
    desired: state(chainAt(first, ...desired), beside('2.0')),
  });
  const own = (name: string, overrides: Partial<Program> = {}): Member => [name, { ...selfLoaded(), ...overrides }];
  const watched = (args: Record<string, string>): Member => [
    'w',
    { companion: launchOf({ cmdUpdate: 'set', updateArgs: args }).companion },
  ];
  const [a, b]: readonly Member[] = [['a'], ['b']] as const;
  return {
    'a self-loaded program is added': change([a!, b!], [a!, own('l'), b!]),
    'a self-loaded program is removed': change([a!, own('l'), b!], [a!, b!]),
    'a self-loaded program gets a new version': change([a!, own('l')], [a!, own('l', { version: '2.0' })]),
    'a self-loaded program changes places': change([own('l'), a!], [a!, own('l')]),
    'a self-loaded program is started with other arguments': change(
      [own('l'), a!],
      [own('l', selfLoaded({ x: '1' })), a!],
    ),
    'a self-loaded program gets a new version that takes tables over': change(
      [own('l'), a!],
      [own('l', { version: '2.0', carryMaps: ['mark_seen', 'mark_paths'] }), a!],
    ),
    'a self-loaded program becomes one that the agent loads': change([own('l'), a!], [['l'], a!]),
    'a program becomes self-loaded': change([['l'], a!], [own('l'), a!]),
    'two self-loaded programs in a row are added': change([a!], [own('l'), own('m'), a!]),
    'a self-loaded program with chaining off gets a new version': change(
      [own('l')],
      [own('l', { version: '2.0' })],
      false,
    ),
    'a companion gets other arguments': change([watched({ rate: '1' }), a!], [watched({ rate: '2' }), a!]),
    'a companion is added, another is removed': change([own('l'), a!], [a!, watched({ rate: '1' })]),
  };
}
