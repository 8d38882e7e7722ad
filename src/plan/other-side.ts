import { programKind, sameHook } from '../domain/hook.js';
import { type Observed, standingChain } from '../domain/observed.js';
import { type GenerationRef, versionSegment } from '../domain/pins.js';
import type { LoadStep, Step } from '../domain/step.js';

/*
 * The programs of one name and version at both sides of TC have one folder of public names, as l3afd has it. A map that asks to be pinned
 * by its name (LIBBPF_PIN_BY_NAME) is therefore one for both: the companions of both find it under that name. What a map asks for only
 * its object tells, so a load is told where the maps of the other side are.
 */

/** @param discarded directories of generations that go, whose maps go with them */
export function withOtherSides(
  steps: readonly Step[],
  observed: Observed,
  discarded: ReadonlySet<string>,
): readonly Step[] {
  const staying = observed.hooks
    .flatMap(standingChain)
    .filter(({ dir }) => !discarded.has(dir))
    .map(({ hook, name, versionSegment: version, dir }) => ({ hook, name, version, dir }));
  const loaded: Side[] = [];
  return steps.map((step): Step => {
    if (step.op !== 'load' || programKind(step.generation.hook.direction) !== 'tc') return step;
    const own = sideOf(step.generation, step.dir);
    const other = [...loaded, ...staying].find((side) => isOtherSide(side, own));
    loaded.push(own);
    return other === undefined ? step : ({ ...step, otherSide: other.dir } satisfies LoadStep);
  });
}

interface Side extends Pick<GenerationRef, 'hook' | 'name' | 'version'> {
  readonly dir: string;
}

function sideOf({ hook, name, version }: GenerationRef, dir: string): Side {
  return { hook, name, version: versionSegment(version), dir };
}

function isOtherSide(one: Side, other: Side): boolean {
  const isTc = programKind(one.hook.direction) === 'tc';
  const isSameFolder = one.hook.iface === other.hook.iface && one.name === other.name && one.version === other.version;
  return isTc && isSameFolder && !sameHook(one.hook, other.hook);
}
