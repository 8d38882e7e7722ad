import type { Direction } from '../../support/directions.js';

import type { PayloadProgram } from '../../support/packages.js';
import { selfLoaded, selfLoadingPackage } from '../../support/self-loading.js';
import { PLATFORM } from '../support/stage.js';
import { byDeploys, type Change, chainOf, contentChange, type Transition } from '../support/transition-kinds.js';
import { testTransitions } from '../support/transitions.js';

/*
 * Programs that their companion loads are added, removed, moved and replaced like any others.
 */

const TIMES = 2;
const HOOKS: readonly Direction[] = ['xdpingress', 'egress'];

testTransitions({
  host: 'transitions-self-loading',
  title: 'no packet misses a program that stays while a companion loads another one',
  packages: (['xdp', 'tc'] as const).flatMap((kind) =>
    ['1.0', '2.0'].map((version) => selfLoadingPackage(kind, `${kind}-mark-2`, { version, platform: PLATFORM })),
  ),
  env: { L3AF_COMPANION_SETTLE_TIME: '200ms' },
  all: () => [
    everywhere('a companion loads what is inserted', (direction) => ({
      direction,
      from: chainOf(direction, [1, 3]),
      to: loadedSecond(chainOf(direction, [1, 2, 3])),
    })),
    everywhere('its neighbours change', (direction) =>
      contentChange(loadedSecond(chainOf(direction, [1, 2, 3])), {
        direction,
        at: 2,
        fields: { version: '2.0' },
      }),
    ),
    everywhere('a companion loads another version', (direction) =>
      contentChange(loadedSecond(chainOf(direction, [1, 2, 3])), {
        direction,
        at: 1,
        fields: { version: '2.0' },
      }),
    ),
    everywhere('a companion loads what the agent has loaded', (direction) => {
      const chain = chainOf(direction, [1, 2, 3]);
      return contentChange(chain, { direction, at: 1, fields: selfLoaded(chain[1]!) });
    }),
    everywhere('a companion loads it again for another place', (direction) => {
      const from = loadedSecond(chainOf(direction, [1, 2, 3])).map((program, index) =>
        index === 1 ? { ...program, carry_maps: ['mark_seen', 'mark_paths'] } : program,
      );
      const [first, second, third] = from as [PayloadProgram, PayloadProgram, PayloadProgram];
      return { direction, from, to: [first, { ...third, seq_id: 20 }, { ...second, seq_id: 30 }] };
    }),
  ],
});

function everywhere(what: string, changeAt: (direction: Direction) => Change): Transition {
  return byDeploys(what, HOOKS.map(changeAt), TIMES);
}

function loadedSecond(chain: readonly PayloadProgram[]): PayloadProgram[] {
  return chain.map((program, index) => (index === 1 ? selfLoaded(program) : program));
}
