import { sameHook, targetName } from '../../domain/hook.js';
import { type Observed, standingChain } from '../../domain/observed.js';
import { type LoadRef, versionSegment } from '../../domain/pins.js';
import type { LoadStep, Step } from '../../steps/step.js';

/*
 * A map that asks to be pinned by its name (LIBBPF_PIN_BY_NAME) is one for all programs of a package at an interface: an
 * XDP program and a TC program that share a table of connections, for example. Companions of TC programs of one name and
 * version find it under one public name anyway. Only the object tells which maps ask for this, so a load step names the
 * directories where the maps of the others are.
 */

/** @param discarded directories of loads that are removed together with their maps */
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
    if (step.op !== 'load') return step;
    const own = sideOf(step.ref, step.dir);
    const others = [...loaded, ...staying].filter((side) => isOtherSide(side, own)).map(({ dir }) => dir);
    loaded.push(own);
    return others.length === 0 ? step : ({ ...step, otherSides: [...new Set(others)] } satisfies LoadStep);
  });
}

interface Side extends Pick<LoadRef, 'hook' | 'name' | 'version'> {
  readonly dir: string;
}

function sideOf({ hook, name, version }: LoadRef, dir: string): Side {
  return { hook, name, version: versionSegment(version), dir };
}

function isOtherSide(one: Side, other: Side): boolean {
  const isSamePlace = targetName(one.hook) === targetName(other.hook) && !sameHook(one.hook, other.hook);
  return isSamePlace && one.name === other.name && one.version === other.version;
}
