import { type Hook, TRACING } from '../domain/hook.js';
import { hookOfPin, probesFolder, programPin } from '../domain/pins.js';
import type { PackageRef } from '../domain/program.js';
import type { PublishStep, StartCompanionStep, Step, StopCompanionStep, WriteMapStep } from './step.js';

/**
 * What planner, executor, proof and report need to know about any kind of step. Each kind states all traits below: a
 * kind without traits, or with a missing trait, does not compile. Code that needs one specific kind checks its `op`.
 */
export interface Traits {
  /** The hook where it is done; undefined for no hook and no probe, or for several hooks. */
  readonly hook: Hook | undefined;
  /**
   * Whether packets take another path afterwards. Then a grace period must pass before programs are discarded that they
   * may be inside.
   */
  readonly diverts: boolean;
  /** Whether an observation of the host that was made before does not hold any more. */
  readonly outdates: boolean;
  /** Whether neighbours of which this is true as well may run at the same time. */
  readonly overlaps: boolean;
  /** The package that must be fetched before. */
  readonly package: PackageRef | undefined;
  readonly pins: PinTraits;
  /** What in a command is at fault if the step fails; undefined for nothing in particular. */
  readonly blame: Blame | undefined;
  /** The steps that roll it back, in reverse order. They work whether it was done completely, in part or not at all. */
  readonly undo: readonly Step[] | UndoOfChange;
  /** The step that tries whether it would succeed, without visible effects; undefined for none. */
  readonly rehearsal: Step | undefined;
}

/** How a step changes pins. Public names do not count: they are additional names of maps that are pinned elsewhere. */
export interface PinTraits {
  /** Directories of loads and pins of links that the step creates. */
  readonly makes: readonly string[];
  /** Directories and pins of loads that the step uses. They must exist before. */
  readonly uses: readonly string[];
  /**
   * Pins of objects that get an additional pin. They stay in the kernel when the directory of the former pin is
   * discarded.
   */
  readonly takesOver: readonly string[];
  /** Directories of loads and pins of links of which nothing may remain in the kernel. */
  readonly ends: readonly string[];
}

/** What is at fault, from the program to the field of the payload. */
export type Blame =
  /** The program of that name at the step's hook. */
  | { readonly on: 'program'; readonly name: string }
  /** The program with this package, whichever it is. */
  | { readonly on: 'package'; readonly package: PackageRef }
  /** The interface of the step's hook: a foreign program may be attached there. */
  | { readonly on: 'interface' }
  /** A field: `0.bpf_programs.xdp_ingress.2.map_args.0`. */
  | { readonly on: 'field'; readonly path: string };

/** For a step that replaces contents which only the kernel knows. */
export type UndoOfChange = (maps: MapHistory) => Promise<readonly Step[]>;

/** What maps contain now. */
export interface MapHistory {
  /** The change that restores the current content of a map after `change` was applied. */
  inverseOf(pin: string, change: Entries): Promise<Entries>;
}

type Entries = Pick<WriteMapStep, 'set' | 'remove' | 'make'>;

export function traitsOf(step: Step): Traits {
  const traits = TRAITS[step.op] as (step: Step) => Traits;
  return traits(step);
}

/**
 * The steps that roll a step back, in reverse order. Call this before the step is done. @throws the error with which
 * reading maps fails
 */
export async function undoOf(step: Step, maps: MapHistory): Promise<readonly Step[]> {
  const { undo } = traitsOf(step);
  return typeof undo === 'function' ? undo(maps) : undo;
}

/** Directories of loads and pins of links that are gone after the steps. */
export function endedBy(steps: readonly Step[]): ReadonlySet<string> {
  return new Set(steps.flatMap((step) => traitsOf(step).pins.ends));
}

/** Directories of loads and pins of links that the steps create. */
export function madeBy(steps: readonly Step[]): ReadonlySet<string> {
  return new Set(steps.flatMap((step) => traitsOf(step).pins.makes));
}

const TRAITS: { readonly [Op in Step['op']]: (step: Extract<Step, { op: Op }>) => Traits } = {
  fetch: (step) => ({
    hook: undefined,
    diverts: false,
    outdates: false,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [], takesOver: [], ends: [] },
    blame: { on: 'package', package: step.package },
    undo: [],
    rehearsal: step,
  }),

  load: (step) => ({
    hook: step.ref.hook,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: step.source.kind === 'package' ? step.source.package : undefined,
    pins: {
      makes: [step.dir],
      uses: [...(step.otherSides ?? []), ...listOf(step.like ?? null)],
      takesOver: pinsOf(step.share),
      ends: [],
    },
    blame: { on: 'program', name: step.ref.name },
    undo: [{ op: 'discard', dir: step.dir }],
    rehearsal: { ...step, probes: step.probes ?? 'load' },
  }),

  'load-probes': (step) => ({
    hook: TRACING,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: step.source.package,
    pins: { makes: [step.dir], uses: [], takesOver: pinsOf(step.share), ends: [] },
    blame: { on: 'program', name: step.probes.name },
    undo: [{ op: 'discard', dir: step.dir }],
    rehearsal: { ...step, treatment: 'load' },
  }),

  'move-probes': (step) => ({
    hook: whereIs(programPin(step.to)),
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [step.to], takesOver: [probesFolder(step.from)], ends: [] },
    blame: undefined,
    undo: [{ ...step, from: step.to, to: step.from }],
    rehearsal: undefined,
  }),

  'make-handover': (step) => ({
    hook: step.ref.hook,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [step.dir], uses: listOf(step.like), takesOver: [], ends: [] },
    blame: { on: 'program', name: step.ref.name },
    undo: [{ op: 'discard', dir: step.dir }],
    rehearsal: undefined,
  }),

  capture: (step) => ({
    hook: step.ref.hook,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [step.dir], takesOver: pinsOf(step.share), ends: [] },
    blame: { on: 'program', name: step.ref.name },
    // Everything is pinned beside the handover slot, and the step that made it has its own rollback.
    undo: [],
    rehearsal: undefined,
  }),

  link: (step) => ({
    hook: whereIs(step.slot),
    diverts: step.live,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [step.slot, ...listOf(step.to)], takesOver: [], ends: [] },
    blame: undefined,
    // A slot that no packet reaches is removed with its load.
    undo: step.live ? [{ ...step, from: step.to, to: step.from }] : [],
    rehearsal: step.live ? undefined : step,
  }),

  attach: (step) => ({
    hook: step.hook,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [step.link], uses: [step.program], takesOver: [], ends: [] },
    blame: { on: 'interface' },
    undo: [{ ...step, op: 'detach' }],
    rehearsal: undefined,
  }),

  detach: (step) => ({
    hook: step.hook,
    diverts: step.program !== '',
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [], takesOver: [], ends: [step.link] },
    blame: undefined,
    // A step without a program is about a dead link.
    undo: step.program === '' ? [] : [{ ...step, op: 'attach' }],
    rehearsal: undefined,
  }),

  retarget: (step) => ({
    hook: step.hook,
    diverts: true,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [step.to.program], takesOver: [], ends: [] },
    blame: undefined,
    undo: [{ ...step, from: step.to, to: step.from }],
    rehearsal: undefined,
  }),

  'write-map': (step) => ({
    hook: whereIs(step.map),
    diverts: false,
    outdates: false,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [step.map], takesOver: [], ends: [] },
    blame: { on: 'field', path: step.path },
    undo: async (maps) => {
      const { op, map, path, set, remove, make } = step;
      return [{ op, map, path, ...(await maps.inverseOf(map, { set, remove, ...(make !== undefined && { make }) })) }];
    },
    rehearsal: undefined,
  }),

  publish: (step) => ({
    hook: undefined,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [step.pin], takesOver: [], ends: [] },
    blame: undefined,
    undo: unpublishing(step),
    rehearsal: undefined,
  }),

  unpublish: (step) => ({
    hook: undefined,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [], takesOver: [], ends: [] },
    blame: undefined,
    undo: step.pin === undefined ? [] : [{ op: 'publish', pin: step.pin, path: step.path }],
    rehearsal: undefined,
  }),

  repin: (step) => ({
    hook: whereIs(programPin(step.dir)),
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [step.dir], takesOver: [], ends: [] },
    blame: undefined,
    undo: [],
    rehearsal: undefined,
  }),

  grace: () => ({
    hook: undefined,
    diverts: false,
    outdates: false,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [], takesOver: [], ends: [] },
    blame: undefined,
    undo: [],
    rehearsal: undefined,
  }),

  discard: (step) => ({
    hook: whereIs(programPin(step.dir)),
    diverts: false,
    outdates: true,
    // Each waits until no packet is in what its slot named, and all can wait together.
    overlaps: true,
    package: undefined,
    pins: { makes: [], uses: [], takesOver: [], ends: [step.dir] },
    blame: undefined,
    undo: [],
    rehearsal: undefined,
  }),

  prove: () => ({
    hook: undefined,
    diverts: false,
    outdates: false,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [], takesOver: [], ends: [] },
    blame: undefined,
    undo: [],
    rehearsal: undefined,
  }),

  'check-companion': (step) => ({
    hook: step.launch.hook,
    diverts: false,
    outdates: false,
    overlaps: false,
    package: step.launch.package,
    pins: { makes: [], uses: [], takesOver: [], ends: [] },
    blame: { on: 'program', name: step.launch.package.name },
    undo: [],
    rehearsal: step,
  }),

  'start-companion': (step) => ({
    hook: step.launch.hook,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: step.launch.package,
    pins: { makes: [], uses: [step.dir], takesOver: [], ends: [] },
    blame: { on: 'program', name: step.launch.package.name },
    undo: stopping(step),
    rehearsal: undefined,
  }),

  'stop-companion': (step) => ({
    hook: step.launch.hook,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [], takesOver: [], ends: [] },
    blame: undefined,
    undo: startingAgain(step),
    rehearsal: undefined,
  }),

  tidy: () => ({
    hook: undefined,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: undefined,
    pins: { makes: [], uses: [], takesOver: [], ends: [] },
    blame: undefined,
    undo: [],
    rehearsal: undefined,
  }),

  'update-companion': (step) => ({
    hook: step.to.hook,
    diverts: false,
    outdates: true,
    overlaps: false,
    package: step.to.package,
    pins: { makes: [], uses: listOf(step.loaded), takesOver: [], ends: [] },
    blame: { on: 'program', name: step.to.package.name },
    undo: [{ ...step, from: step.to, to: step.from }],
    rehearsal: undefined,
  }),
};

/** Gives the name back to its former map, if there was one. */
function unpublishing({ pin, path, former }: PublishStep): Step[] {
  return [former === undefined ? { op: 'unpublish', path, pin } : { op: 'publish', pin: former, path, former: pin }];
}

/** A companion that loads its program is stopped before its names are removed. The list is in reverse order. */
function stopping({ launch, dir, restarts, loads }: StartCompanionStep): Step[] {
  const stop = { op: 'stop-companion', launch, dir, restarts } as const;
  return loads === undefined
    ? [stop]
    : [
        { op: 'tidy', claim: loads },
        { ...stop, loads: true },
      ];
}

/** A companion that has loaded its program is stopped only when there is no way back any more. */
function startingAgain({ launch, dir, restarts, loads }: StopCompanionStep): Step[] {
  return loads === true ? [] : [{ op: 'start-companion', launch, dir, restarts }];
}

/** The hook of a pin. A pin that belongs to no hook belongs to a probe. */
function whereIs(pin: string): Hook {
  return hookOfPin(pin) ?? TRACING;
}

function pinsOf(share: readonly { readonly pin: string }[]): string[] {
  return share.map(({ pin }) => pin);
}

function listOf(pin: string | null | undefined): string[] {
  return pin === null || pin === undefined ? [] : [pin];
}
