import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Stage } from '../e2e/support/stage.js';
import type { Kind } from '../support/kernel-ids.js';
import { entryAt, type Pinned, PROG_ARRAY, pinsBelow, slotAt } from '../support/pins.js';
import { createTestbed } from '../support/testbed.js';
import { variantPackages } from './codes.js';
import type { Intent } from './intents.js';
import { damageKernel } from './kernel-damage.js';
import { Prober } from './probes.js';
import { listOf, type Seen, type SeenProgram } from './seen.js';
import { play, type World } from './sequence.js';

const PLATFORM = 'bookworm';
const PATIENCE_MS = 20_000;
const POLL_MS = 20;

export interface KernelWorld extends World {
  readonly stage: Stage;
  /** Ids of all objects that were ever seen pinned. */
  readonly ids: Readonly<Record<Kind, Set<number>>>;
  /** Lets the agent remove everything. */
  reset(): Promise<void>;
  /**
   * Plays a sequence on an empty host. After a failure, cleans up so that the next sequence starts on an empty host.
   */
  playAnew(intents: readonly (Intent | undefined)[]): Promise<void>;
  close(): Promise<void>;
}

/** An agent in its own process, with two interfaces. @param env additional settings of the agent */
export async function openKernelWorld(host: string, env: Readonly<Record<string, string>>): Promise<KernelWorld> {
  const second = await createTestbed();
  const stage = await Stage.open({ host, packages: variantPackages(PLATFORM), env });
  const beds = [stage.bed, second];
  const probers = await Promise.all(beds.map(Prober.open));
  const ids = { prog: new Set<number>(), map: new Set<number>(), link: new Set<number>() };
  const world: KernelWorld = {
    stage,
    ids,
    async reset() {
      const { status } = await stage.send('deploy', []);
      assert.match(status, /^(applied|unchanged)$/);
    },
    async playAnew(intents) {
      await world.reset();
      try {
        await play(intents, world);
      } catch (error) {
        await world.reset().catch(() => undefined);
        for (const { path } of pinsBelow(stage.bpffs)) rmSync(`${stage.bpffs}/${path}`);
        throw error;
      }
    },
    hostName: host,
    repository: `file://${stage.repository}`,
    verifies: true,
    ifaces: beds.map(({ iface }) => iface),
    send: (verb, body) => stage.send(verb, body),
    async look() {
      const pins = pinsBelow(stage.bpffs);
      for (const { kind, id } of pins) ids[kind].add(id);
      return seenIn(pins, stage.bpffs);
    },
    async read(pin, key) {
      return entryAt(`${stage.bpffs}/${pin}`, key);
    },
    async probe(model) {
      await Promise.all(probers.map((prober) => prober.probe()));
      return model.places();
    },
    damage: (kind, place, which, seen) => damageKernel({ bpffs: stage.bpffs, beds }, kind, place, which, seen),
    async mend(isMended) {
      for (const patience = AbortSignal.timeout(PATIENCE_MS); ; ) {
        try {
          return await isMended();
        } catch (error) {
          if (patience.aborted) throw error;
          await sleep(POLL_MS);
        }
      }
    },
    async close() {
      await Promise.all(probers.map((prober) => prober.close()));
      await stage.close();
      await second.close();
    },
  };
  return world;
}

function seenIn(pins: readonly Pinned[], bpffs: string): Seen {
  const links = pins.filter(({ kind }) => kind === 'link');
  const inside = pins.filter(({ path }) => path.startsWith('progs/'));
  const dirs = [...new Set(inside.map(({ path }) => path.split('/').slice(0, 5).join('/')))];
  return {
    programs: dirs.map((dir): SeenProgram => {
      const [, iface = '', name = '', version = '', load = ''] = dir.split('/');
      const own = new Map(
        inside.filter(({ path }) => path.startsWith(`${dir}/`)).map((pin) => [pin.path.slice(dir.length + 1), pin]),
      );
      const slot = own.get('slot');
      if (slot !== undefined && slot.mapType !== PROG_ARRAY) throw new Error(`${slot.path} is no PROG_ARRAY`);
      return {
        iface,
        list: listOf(load.split('-')[0] ?? ''),
        name,
        version,
        dir,
        id: own.get('prog')?.id,
        slot: slot && { mapId: slot.id, next: slotAt(`${bpffs}/${slot.path}`) },
        maps: new Map(
          [...own].flatMap(([path, { id }]) => (path.startsWith('maps/') ? [[path.slice(5), id] as const] : [])),
        ),
      };
    }),
    links: links.map(({ path, programId, ifindex }) => {
      const [, iface = '', , , direction = ''] = path.split('/');
      return { iface, list: listOf(direction), pin: path, programId, attached: ifindex === indexOf(iface) };
    }),
    names: new Map(pins.filter(({ path }) => !/^(links|progs)\//.test(path)).map(({ path, id }) => [path, id])),
  };
}

/** Interface index; undefined if the interface is gone. */
function indexOf(iface: string): number | undefined {
  try {
    return Number(readFileSync(`/sys/class/net/${iface}/ifindex`, 'utf8'));
  } catch {
    return undefined;
  }
}
