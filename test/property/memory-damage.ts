import type { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import type { Damage } from './intents.js';
import type { Place } from './model.js';
import { chainIn, type Seen, type SeenProgram } from './seen.js';

interface Victim {
  readonly datapath: MemoryDatapath;
  readonly bpffs: string;
  readonly interfaces: Map<string, number>;
}

/** Kinds of damage to the memory datapath from outside the agent; see `World.damage`. */
export async function breakIn(
  { datapath, bpffs, interfaces }: Victim,
  kind: Damage,
  place: Place,
  which: number,
  seen: Seen,
): Promise<readonly string[] | undefined> {
  const link = seen.links.find(({ iface, list }) => iface === place.iface && list === place.list);
  if (link === undefined) return undefined;
  const chain = chainIn(seen, place);
  const member = (n: number): SeenProgram => chain[n % chain.length]!;
  const victim = member(which);
  const at = (path: string) => `${bpffs}/${path}`;
  const [slot, program] = [at(`${victim.dir}/slot`), (of: SeenProgram) => at(`${of.dir}/prog`)];
  switch (kind) {
    case 'detach':
      await datapath.detach({ iface: place.iface, direction: 'xdpingress' }, at(link.pin));
      return [];
    case 'empty slot':
    case 'skip one':
    case 'loop': {
      if (victim.slot === undefined) return undefined;
      const next = kind === 'skip one' ? chain[chain.indexOf(victim) + 2] : kind === 'loop' ? chain[0] : undefined;
      await datapath.setSlot(slot, next === undefined ? null : program(next));
      return [];
    }
    case 'lose loaded program':
      await datapath.discard(at(victim.dir));
      // The memory datapath does not know that a map is unused and its name is free.
      for (const name of namesOf(victim, seen)) await datapath.unpublish(at(name));
      return [victim.name];
    case 'lose public name': {
      const name = [...seen.names.keys()][which];
      if (name === undefined) return undefined;
      await datapath.unpublish(at(name));
      return [];
    }
    case 'remake interface': {
      const index = interfaces.get(place.iface)!;
      interfaces.set(place.iface, index + 10);
      return [];
    }
    // The memory datapath cannot remove a single pin.
    case 'lose program pin':
    case 'lose slot pin':
    case 'lose map pin':
      return undefined;
  }
}

/** The public names of a program's maps. */
function namesOf({ maps, slot }: SeenProgram, { names }: Seen): string[] {
  const ids = new Set([...maps.values(), slot?.mapId]);
  return [...names].filter(([, id]) => ids.has(id)).map(([path]) => path);
}
