import { dirname } from 'node:path';
import { MemoryCompanions } from '../../src/companions/memory.js';
import type { Datapath } from '../../src/datapath/datapath.js';
import { attachPointOf } from '../../src/domain/hook.js';
import { handoverPin, programPin } from '../../src/domain/pins.js';
import type { Program } from '../../src/domain/program.js';
import { program } from '../support/chains.js';
import { HOOK, launchOf } from '../support/companions.js';
import { builtObject } from '../support/project.js';

/** The data maps of the marker program that a companion takes over if it finds them under its public names. */
const MAPS = ['mark_id', 'mark_seen', 'mark_paths'];

/**
 * Companions without processes that load a real program into the handover slot: the marker, on any datapath. It is
 * loaded next to the load that it becomes.
 */
export function loadingCompanions(datapath: Datapath, bpffs: string): MemoryCompanions {
  return new MemoryCompanions({
    async onLoading(dir, hook) {
      const kind = attachPointOf(hook).programType;
      const scratch = `${dirname(dir)}/${hook.direction}-${'f'.repeat(16)}-1`;
      const owner = dirname(dir).slice(`${bpffs}/progs/`.length);
      const folder = kind === 'xdp' ? `${bpffs}/${owner}` : `${bpffs}/tc/globals/${owner}`;
      const { publicMaps } = await datapath.observe();
      const share = MAPS.map((map) => ({ map, pin: `${folder}/${map}` })).filter(({ pin }) => publicMaps.has(pin));
      const object = `${kind}_mark`;
      const request = { hook, dir: scratch, objectPath: builtObject(object), entryFunction: object, share };
      await datapath.load({ ...request, slotMap: 'mark_next', fill: [] });
      await datapath.setSlot(handoverPin(dir), programPin(scratch));
      await datapath.discard(scratch);
    },
  });
}

/** The properties of a program that its companion loads, with the companion's arguments. */
export function selfLoaded(startArgs: Record<string, string> = {}): Partial<Program> {
  return { objectFile: '', companion: launchOf({ startArgs }).companion };
}

/** A program at {@link HOOK} that is loaded by its companion. */
export function loadedBy(name: string, seqId: number, overrides: Partial<Program> = {}): Program {
  return program(name, seqId, { ...selfLoaded(), ...overrides }, HOOK.direction);
}
