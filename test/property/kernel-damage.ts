import { rmSync } from 'node:fs';
import { detachLink, overwriteSlot } from '../support/pins.js';
import type { Testbed } from '../support/testbed.js';
import type { Damage } from './intents.js';
import type { Place } from './model.js';
import { chainIn, type Seen, type SeenProgram } from './seen.js';

interface Victim {
  readonly bpffs: string;
  readonly beds: readonly Testbed[];
}

/** Kinds of damage to the kernel's state from outside the agent; see `World.damage`. */
export async function damageKernel(
  { bpffs, beds }: Victim,
  kind: Damage,
  place: Place,
  which: number,
  seen: Seen,
): Promise<readonly string[] | undefined> {
  const link = seen.links.find(({ iface, list }) => iface === place.iface && list === place.list);
  if (link === undefined) return undefined;
  const chain = chainIn(seen, place);
  const victim: SeenProgram = chain[which % chain.length]!;
  const at = (path: string) => `${bpffs}/${path}`;
  const remove = (path: string) => rmSync(at(path), { recursive: true });
  const slot = at(`${victim.dir}/slot`);
  switch (kind) {
    case 'detach':
      detachLink(at(link.pin));
      return [];
    case 'empty slot':
    case 'skip one':
    case 'loop': {
      if (victim.slot === undefined) return undefined;
      const next = kind === 'skip one' ? chain[chain.indexOf(victim) + 2] : kind === 'loop' ? chain[0] : undefined;
      overwriteSlot(slot, next && at(`${next.dir}/prog`));
      return [];
    }
    case 'lose program pin':
      remove(`${victim.dir}/prog`);
      return [];
    case 'lose slot pin':
      if (victim.slot === undefined) return undefined;
      remove(`${victim.dir}/slot`);
      return [];
    case 'lose map pin': {
      const map = [...victim.maps.keys()][which];
      if (map === undefined) return undefined;
      remove(`${victim.dir}/maps/${map}`);
      return [];
    }
    case 'lose loaded program':
      remove(victim.dir);
      return [victim.name];
    case 'lose public name': {
      const name = [...seen.names.keys()][which];
      if (name === undefined) return undefined;
      remove(name);
      return [];
    }
    case 'remake interface':
      await beds.find(({ iface }) => iface === place.iface)?.recreate();
      return [];
  }
}
