import {
  type CompanionLaunch,
  companionKey,
  isAsItShould,
  type ObservedCompanion,
  sameLaunch,
  startsAlike,
} from '../../domain/companion.js';
import { type DesiredState, desiredPlaces } from '../../domain/desired.js';
import { hookKey, isTracing, sameHook } from '../../domain/hook.js';
import { hookAt, type LoadedProgram, type Observed, observedProbes, standingChain } from '../../domain/observed.js';
import { mapPin } from '../../domain/pins.js';
import { isSelfLoaded, packageOf } from '../../domain/program.js';
import type { ProgramOutcome } from '../../steps/plan.js';
import type { LoadProbesStep, LoadStep, Step, StopCompanionStep } from '../../steps/step.js';
import type { Revival } from '../context.js';

export interface CompanionsInput {
  readonly observed: Observed;
  readonly desired: DesiredState;
  /** The companions that exist at the hooks of this plan. */
  readonly running: readonly ObservedCompanion[];
  /** The prepare steps of the plans for the chains. */
  readonly prepare: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  /** Leaves starts and updates to another plan. */
  readonly stopOnly: boolean;
  /** Companions to leave alone, as {@link companionKey} gives them. */
  readonly except: ReadonlySet<string>;
  /**
   * Companions to start again because they do not run as they should, by {@link companionKey}. No other companion is
   * then started that merely does not run: one that has ended since the last check is left to the next check, or its
   * restart would not be counted. Undefined: all companions that do not run are started.
   */
  readonly revivals: ReadonlyMap<string, Revival> | undefined;
}

/** The part of a plan that concerns companions. */
export interface CompanionsPlan {
  readonly prepare: readonly Step[];
  readonly stop: readonly Step[];
  readonly start: readonly Step[];
  /** Companions to stop in the cleanup, when no packet is inside the programs that they have loaded. */
  readonly retire: readonly Step[];
  /** The given outcomes, with the changes of the companions added. */
  readonly outcomes: readonly ProgramOutcome[];
  readonly reasons: readonly string[];
}

/** What to do about one companion. */
interface Change {
  readonly launch: CompanionLaunch;
  readonly prepare?: readonly Step[];
  readonly stop?: Step;
  readonly start?: Step;
  readonly reason: string;
}

/**
 * Plans the change from the companions that exist to the desired ones: one for each program that will run and asks for
 * one. A companion keeps running through any change of the chain around it, while it is started in the same way and its
 * program keeps its maps. It holds the maps that it has opened. So if its program gets new maps under the same names,
 * the companion is started again.
 */
export function planCompanions(input: CompanionsInput): CompanionsPlan {
  const wanted = wantedCompanions(input);
  const [loaders, others] = [wanted.filter(({ loads }) => loads), wanted.filter(({ loads }) => !loads)];
  const keys = new Set(others.map(({ launch }) => companionKey(launch)));
  const all: readonly Change[] = [
    ...input.running
      .filter(({ launch, loaded }) => loaded === undefined && !keys.has(companionKey(launch)))
      .map((found) => leaving(found, input.observed)),
    ...others.flatMap((companion) => changeOf(companion, input) ?? []),
    ...loaders.flatMap((companion) => updateOf(companion, input) ?? []),
  ];
  const allowed = all.filter(({ launch }) => !input.except.has(companionKey(launch)));
  const changes = input.stopOnly ? allowed.flatMap(stopOf) : allowed;
  const started = startedIn(input.prepare);
  const retire = retiring(input);
  const changed = new Set(changes.map(({ launch }) => companionKey(launch)));
  return {
    prepare: changes.flatMap(({ prepare }) => prepare ?? []),
    stop: changes.flatMap(({ stop }) => stop ?? []),
    start: changes.flatMap(({ start }) => start ?? []),
    retire,
    outcomes: input.outcomes.map((outcome) => {
      const { hook, name, result } = outcome;
      const key = companionKey({ hook, package: { name } });
      const told = result !== 'unchanged' && result !== 'moved';
      const updated = changed.has(key) || (result === 'unchanged' && started.has(key));
      return told || !updated ? outcome : { ...outcome, result: 'updated' };
    }),
    reasons: [
      ...[...started.values()].map((launch) => ({ launch, reason: loading(launch, input) })),
      ...changes,
      ...retire.map(({ launch }) => ({ launch, reason: `stops the companion of ${launch.package.name}` })),
    ].map(({ launch, reason }) => `${hookKey(launch.hook)}: ${reason}`),
  };
}

/** Companions that will load their programs, by {@link companionKey}. */
function startedIn(prepare: readonly Step[]): ReadonlyMap<string, CompanionLaunch> {
  return new Map(
    prepare.flatMap((step) =>
      step.op === 'start-companion' ? [[companionKey(step.launch), step.launch] as const] : [],
    ),
  );
}

function loading(launch: CompanionLaunch, { revivals }: CompanionsInput): string {
  const why = revivals?.get(companionKey(launch))?.why;
  const { name } = launch.package;
  return `lets the companion of ${name} load its program${why === undefined ? '' : ` again: ${why}`}`;
}

/** Companions that have loaded programs which no longer run, because they were replaced or are no longer desired. */
function retiring({ running, outcomes }: CompanionsInput): StopCompanionStep[] {
  const dirs = new Set(outcomes.map(({ dir }) => dir));
  return running.flatMap(({ launch, loaded, restarts }): StopCompanionStep[] =>
    loaded === undefined || dirs.has(loaded)
      ? []
      : [{ op: 'stop-companion', launch, dir: loaded, restarts, loads: true }],
  );
}

function stopOf({ launch, stop, reason }: Change): Change[] {
  return stop === undefined ? [] : [{ launch, stop, reason }];
}

interface Wanted {
  readonly launch: CompanionLaunch;
  /** Directory of its program's load after the plan. */
  readonly dir: string;
  /** Whether it loads the program itself. */
  readonly loads: boolean;
}

function wantedCompanions({ desired, outcomes }: CompanionsInput): Wanted[] {
  return desiredPlaces(desired).flatMap(({ hook, programs }) =>
    programs.flatMap((program): Wanted[] => {
      const { companion } = program;
      const dir = outcomes.find((outcome) => outcome.name === program.name && sameHook(outcome.hook, hook))?.dir;
      if (companion === undefined || dir === undefined) return [];
      return [{ launch: { hook, package: packageOf(program), companion }, dir, loads: isSelfLoaded(program) }];
    }),
  );
}

/** The update of a companion that keeps the program that it has loaded. A start is part of loading that program. */
function updateOf({ launch, dir }: Wanted, { running }: CompanionsInput): Change | undefined {
  const found = running.find(({ loaded }) => loaded === dir);
  if (found === undefined || !startsAlike(found.launch, launch) || sameLaunch(found.launch, launch)) return undefined;
  return { ...updating(found.launch, launch, dir), launch, prepare: preparing(launch) };
}

function updating(from: CompanionLaunch, to: CompanionLaunch, loaded?: string): Pick<Change, 'start' | 'reason'> {
  const start: Step = { op: 'update-companion', from, to, ...(loaded !== undefined && { loaded }) };
  return { start, reason: `changes the arguments of the companion of ${to.package.name} while it runs` };
}

function preparing(launch: CompanionLaunch): readonly Step[] {
  return [{ op: 'check-companion', launch }];
}

function changeOf({ launch, dir }: Wanted, input: CompanionsInput): Change | undefined {
  const found = input.running.find(
    ({ launch: other, loaded }) => loaded === undefined && companionKey(other) === companionKey(launch),
  );
  const { name } = launch.package;
  const prepare = preparing(launch);
  const revival = input.revivals?.get(companionKey(launch));
  const restarts = revival?.restarts ?? 0;
  const mayStart = input.revivals === undefined || revival !== undefined;
  if (found === undefined) {
    if (!mayStart) return undefined;
    const start: Step = { op: 'start-companion', launch, dir, restarts };
    return { launch, prepare, start, reason: `starts the companion of ${name}` };
  }
  const alike = startsAlike(found.launch, launch);
  const whole = isAsItShould({ ...found, launch });
  if (alike && !whole && !mayStart) return undefined;
  if (alike && (!whole || revival !== undefined)) {
    const start: Step = { op: 'start-companion', launch, dir, restarts };
    return {
      launch,
      prepare,
      start,
      reason: `starts the companion of ${name} again: ${revival?.why ?? 'it has ended'}`,
    };
  }
  if (!alike || !sameMaps(found.maps, mapsAfter(dir, input))) {
    const start: Step = { op: 'start-companion', launch, dir, restarts: 0 };
    const why = alike ? 'since its program gets new maps' : 'since it must be started in another way';
    return {
      ...leaving(found, input.observed),
      launch,
      prepare,
      start,
      reason: `starts the companion of ${name} again, ${why}`,
    };
  }
  if (sameLaunch(found.launch, launch)) return undefined;
  return { ...updating(found.launch, launch), launch, prepare };
}

function leaving({ launch, restarts }: ObservedCompanion, observed: Observed): Change {
  const { name } = launch.package;
  const { hook } = launch;
  const there = isTracing(hook) ? observedProbes(observed).toReversed() : standingChain(hookAt(observed, hook));
  const standing = there.find((loaded) => loaded.name === name);
  const stop: Step = { op: 'stop-companion', launch, dir: standing?.dir ?? '', restarts };
  return { launch, stop, reason: `stops the companion of ${name}` };
}

/** Kernel ids of the maps that a program has after the plan; undefined if it gets new maps. */
function mapsAfter(dir: string, { observed, prepare }: CompanionsInput): readonly number[] | undefined {
  const loadedPrograms = observed.hooks.flatMap((hook) => hook.loadedPrograms);
  const kept = [...loadedPrograms, ...observedProbes(observed)].find((loaded) => loaded.dir === dir);
  if (kept !== undefined) return idsOf(kept);
  const probes = prepare.find((step): step is LoadProbesStep => step.op === 'load-probes' && step.dir === dir);
  if (probes !== undefined) return mapsOfProbes(probes, observed);
  const load = prepare.find((step): step is LoadStep => step.op === 'load' && step.dir === dir);
  const shared = new Set(load?.share.map(({ pin }) => pin));
  // A reload of the same code takes over all maps, which may be none.
  const twin = loadedPrograms.find(
    ({ hook, name, digest, programId, dir: other, maps }) =>
      programId !== undefined &&
      load !== undefined &&
      sameHook(hook, load.ref.hook) &&
      name === load.ref.name &&
      digest === load.ref.digest &&
      maps.every((map) => shared.has(mapPin(other, map.name))),
  );
  return twin === undefined ? undefined : idsOf(twin);
}

function mapsOfProbes({ probes, share }: LoadProbesStep, observed: Observed): readonly number[] | undefined {
  const shared = new Set(share.map(({ pin }) => pin));
  const twin = observedProbes(observed).findLast(
    ({ name, digest, dir, maps }) =>
      name === probes.name && digest === probes.digest && maps.every((map) => shared.has(mapPin(dir, map.name))),
  );
  return twin === undefined ? undefined : idsOf(twin);
}

/** Kernel ids of a loaded program's data maps, ascending. */
export function idsOf({ maps }: Pick<LoadedProgram, 'maps'>): readonly number[] {
  return maps.map(({ id }) => id).toSorted((a, b) => a - b);
}

function sameMaps(held: readonly number[], now: readonly number[] | undefined): boolean {
  return now !== undefined && held.join() === now.join();
}
