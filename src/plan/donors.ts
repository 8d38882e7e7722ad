import { areWhole, type Generation, type ObservedProbe } from '../domain/observed.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { MoveProbesStep } from '../domain/step.js';
import type { Inheritance } from './maps.js';

/** A program of a chain that may get probes from elsewhere. */
interface Taker {
  readonly dir: string;
  readonly digest: string;
  readonly inherited: Inheritance | undefined;
}

/**
 * Whose probes a program is to have that are beside it in its object: those of another generation of the same code on the same maps.
 * They go on while the program is loaded again for another place in the chain, since two of each would count every event twice.
 */
export function donorOf({ dir, digest, inherited }: Taker, generations: readonly Generation[]): Generation | undefined {
  if (inherited === undefined || generations.some((own) => own.dir === dir && hasProbes(own))) return undefined;
  const maps = idsOf(inherited.maps);
  return generations.find(
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

/** The steps that hand probes on to the members of a chain that run their programs from now on. */
export function planMoves(
  members: readonly (Omit<Taker, 'digest'> & { readonly program: Program })[],
  generations: readonly Generation[],
): MoveProbesStep[] {
  return members.flatMap(({ dir, program, inherited }): MoveProbesStep[] => {
    const donor = donorOf({ dir, digest: contentDigest(program), inherited }, generations);
    return donor === undefined ? [] : [{ op: 'move-probes', from: donor.dir, to: dir }];
  });
}
