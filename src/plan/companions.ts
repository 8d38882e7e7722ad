import {
  type CompanionLaunch,
  companionKey,
  type ObservedCompanion,
  sameLaunch,
  startsAlike,
} from '../domain/companion.js';
import type { DesiredState } from '../domain/desired.js';
import { type Hook, hookKey, type NoHook, sameHook } from '../domain/hook.js';
import { type Generation, hookAt, type Observed, standingChain } from '../domain/observed.js';
import { mapPin } from '../domain/pins.js';
import { packageOf } from '../domain/program.js';
import type { LoadStep, ProgramOutcome, Step } from '../domain/step.js';

export interface CompanionsInput {
  readonly observed: Observed;
  readonly desired: DesiredState;
  /** The companions that are there, at the hooks that the plan concerns. */
  readonly running: readonly ObservedCompanion[];
  /** What the plans for the chains come to. */
  readonly prepare: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  /** Leaves starting and updating for another plan. */
  readonly stopOnly: boolean;
  /** Leaves these alone, as {@link companionKey} gives them. */
  readonly except: ReadonlySet<string>;
  /**
   * Those to be started because they do not run as they should, by {@link companionKey}; then no other is that merely does not run: one
   * that has ended since it was looked at is for the next look, or its restart would not count. Undefined: all that do not run are started.
   */
  readonly revivals: ReadonlyMap<string, Revival> | undefined;
}

/** Why a companion is to be started again, and how often it was with this time. */
export interface Revival {
  readonly why: string;
  readonly restarts: number;
}

/** The part of a plan that concerns companions. */
export interface CompanionsPlan {
  readonly prepare: readonly Step[];
  readonly stop: readonly Step[];
  readonly start: readonly Step[];
  /** Those given, with what the companions add to them. */
  readonly outcomes: readonly ProgramOutcome[];
  readonly reasons: readonly string[];
}

/** What is to be done about one companion. */
interface Change {
  readonly launch: CompanionLaunch;
  readonly prepare?: readonly Step[];
  readonly stop?: Step;
  readonly start?: Step;
  readonly reason: string;
}

/**
 * From the companions that are there to those that are wanted: one for each program that will run and asks for one. A companion goes on as
 * long as it is started alike and its program keeps its maps, through any change of the chain around it. It holds the maps that it has
 * opened, so where its program gets new ones, under the same names, it is started anew.
 */
export function planCompanions(input: CompanionsInput): CompanionsPlan {
  const wanted = wantedCompanions(input);
  const keys = new Set(wanted.map(({ launch }) => companionKey(launch)));
  const all: readonly Change[] = [
    ...input.running
      .filter(({ launch }) => !keys.has(companionKey(launch)))
      .map((found) => leaving(found, input.observed)),
    ...wanted.flatMap((companion) => changeOf(companion, input) ?? []),
  ];
  const allowed = all.filter(({ launch }) => !input.except.has(companionKey(launch)));
  const changes = input.stopOnly ? allowed.flatMap(stopOf) : allowed;
  const changed = new Set(changes.map(({ launch }) => companionKey(launch)));
  return {
    prepare: changes.flatMap(({ prepare }) => prepare ?? []),
    stop: changes.flatMap(({ stop }) => stop ?? []),
    start: changes.flatMap(({ start }) => start ?? []),
    outcomes: input.outcomes.map((outcome) => {
      const told = outcome.result !== 'unchanged' && outcome.result !== 'moved';
      return told || !changed.has(keyOf(outcome.hook, outcome.name)) ? outcome : { ...outcome, result: 'updated' };
    }),
    reasons: changes.map(({ launch, reason }) => `${hookKey(launch.hook)}: ${reason}`),
  };
}

function stopOf({ launch, stop, reason }: Change): Change[] {
  return stop === undefined ? [] : [{ launch, stop, reason }];
}

interface Wanted {
  readonly launch: CompanionLaunch;
  /** Directory of the generation of its program after the plan. */
  readonly dir: string;
}

function wantedCompanions({ desired, outcomes }: CompanionsInput): Wanted[] {
  return desired.chains.flatMap(({ hook, programs }) =>
    programs.flatMap((program): Wanted[] => {
      const { companion } = program;
      const dir = outcomes.find((outcome) => outcome.name === program.name && sameHook(outcome.hook, hook))?.dir;
      if (companion === undefined || dir === undefined) return [];
      return [{ launch: { hook, package: packageOf(program), companion }, dir }];
    }),
  );
}

function changeOf({ launch, dir }: Wanted, input: CompanionsInput): Change | undefined {
  const found = input.running.find((other) => companionKey(other.launch) === companionKey(launch));
  const { name } = launch.package;
  const prepare: readonly Step[] = [
    { op: 'fetch', package: launch.package },
    { op: 'check-companion', launch },
  ];
  const revival = input.revivals?.get(companionKey(launch));
  const restarts = revival?.restarts ?? 0;
  const mayStart = input.revivals === undefined || revival !== undefined;
  if (found === undefined) {
    if (!mayStart) return undefined;
    const start: Step = { op: 'start-companion', launch, dir, restarts };
    return { launch, prepare, start, reason: `starts the companion of ${name}` };
  }
  const alike = startsAlike(found.launch, launch);
  const whole = found.state === (launch.companion.daemon && launch.companion.cmdStart !== '' ? 'running' : 'done');
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
    const why = alike ? 'since its program gets new maps' : 'since it is to be started in another way';
    return {
      ...leaving(found, input.observed),
      launch,
      prepare,
      start,
      reason: `starts the companion of ${name} anew, ${why}`,
    };
  }
  if (sameLaunch(found.launch, launch)) return undefined;
  const start: Step = { op: 'update-companion', from: found.launch, to: launch };
  return { launch, prepare, start, reason: `gives the companion of ${name} other arguments; it goes on` };
}

function leaving({ launch, restarts }: ObservedCompanion, observed: Observed): Change {
  const { name } = launch.package;
  const standing = standingChain(hookAt(observed, launch.hook)).find((generation) => generation.name === name);
  const stop: Step = { op: 'stop-companion', launch, dir: standing?.dir ?? '', restarts };
  return { launch, stop, reason: `stops the companion of ${name}` };
}

/** Kernel ids of the maps that a generation has after the plan; undefined if it gets new ones. */
function mapsAfter(dir: string, { observed, prepare }: CompanionsInput): readonly number[] | undefined {
  const generations = observed.hooks.flatMap((hook) => hook.generations);
  const kept = generations.find((generation) => generation.dir === dir);
  if (kept !== undefined) return idsOf(kept);
  const load = prepare.find((step): step is LoadStep => step.op === 'load' && step.dir === dir);
  const shared = new Set(load?.share.map(({ pin }) => pin));
  // A reload of the same code takes all maps over, which may be none.
  const twin = generations.find(
    ({ hook, name, digest, programId, dir: other, maps }) =>
      programId !== undefined &&
      load !== undefined &&
      sameHook(hook, load.generation.hook) &&
      name === load.generation.name &&
      digest === load.generation.digest &&
      maps.every((map) => shared.has(mapPin(other, map.name))),
  );
  return twin === undefined ? undefined : idsOf(twin);
}

/** Kernel ids of a generation's data maps, ascending. */
export function idsOf({ maps }: Pick<Generation, 'maps'>): readonly number[] {
  return maps.map(({ id }) => id).toSorted((a, b) => a - b);
}

function sameMaps(held: readonly number[], now: readonly number[] | undefined): boolean {
  return now !== undefined && held.join() === now.join();
}

/** As {@link companionKey}; of a probe, which has no companion, none that there is. */
function keyOf(hook: Hook | NoHook, name: string): string {
  return hook.direction === '' ? '' : companionKey({ hook, package: { name } });
}
