import { areWhole, type LoadedProgram, type ObservedProbe } from '../../domain/observed.js';
import { contentDigest, type Program } from '../../domain/program.js';
import type { MoveProbesStep } from '../../steps/step.js';
import type { Inheritance } from '../maps/changes.js';

/** A program of a chain that may take over probes from another load. */
interface Taker {
  readonly dir: string;
  readonly digest: string;
  readonly inherited: Inheritance | undefined;
}

/**
 * Finds the load whose probes a program can take over. These are the probes that its object contains beside the
 * program. The other load must have the same code and the same maps. Its probes stay attached while the program
 * is loaded again for another place in the chain: with two of each, every event would be counted twice.
 */
export function donorOf(
  { dir, digest, inherited }: Taker,
  loadedPrograms: readonly LoadedProgram[],
): LoadedProgram | undefined {
  if (inherited === undefined || loadedPrograms.some((own) => own.dir === dir && hasProbes(own))) return undefined;
  const maps = idsOf(inherited.maps);
  return loadedPrograms.find(
    (other) =>
      other.dir !== dir &&
      other.digest === digest &&
      hasProbes(other) &&
      areWhole(other.probes ?? []) &&
      idsOf(other.maps) === maps,
  );
}

function hasProbes({ probes }: { readonly probes?: readonly ObservedProbe[] }): boolean {
  return probes !== undefined && probes.length > 0;
}

function idsOf(maps: readonly { readonly id: number }[]): string {
  return maps
    .map(({ id }) => id)
    .toSorted((a, b) => a - b)
    .join();
}

/** The steps that move probes to the members of a chain that run their programs from now on. */
export function planMoves(
  members: readonly (Omit<Taker, 'digest'> & { readonly program: Program })[],
  loadedPrograms: readonly LoadedProgram[],
): MoveProbesStep[] {
  return members.flatMap(({ dir, program, inherited }): MoveProbesStep[] => {
    const donor = donorOf({ dir, digest: contentDigest(program), inherited }, loadedPrograms);
    return donor === undefined ? [] : [{ op: 'move-probes', from: donor.dir, to: dir }];
  });
}
