import { ATTACH_POINT_NAMES, type ChainHook, type Hook, sameHook, TRACING, targetName } from './hook.js';
import type { Program } from './program.js';

/** The desired programs at one hook, by ascending `seqId`, including disabled ones; never empty. */
export interface Chain {
  readonly hook: ChainHook;
  readonly programs: readonly Program[];
}

/** The state that the last applied commands desire for this host. */
export interface DesiredState {
  /** At most one per hook, by interface or control group, and attach point. */
  readonly chains: readonly Chain[];
  /** `ipv4_address` of each interface that a command named. It is used as a label of metrics. */
  readonly addresses: Readonly<Record<string, string>>;
  /** The probes of the host by name, including disabled ones. Names are unique. Absent for none. */
  readonly probes?: readonly Program[];
}

export const NOTHING_DESIRED: DesiredState = { chains: [], addresses: {} };

/** The desired programs at a hook, by ascending `seqId`. */
export function programsAt(desired: DesiredState, hook: ChainHook): readonly Program[] {
  return desired.chains.find((chain) => sameHook(chain.hook, hook))?.programs ?? [];
}

/** Paths of the control groups in the desired state. */
export function cgroupsOf({ chains }: Pick<DesiredState, 'chains'>): string[] {
  return chains.flatMap(({ hook }) => ('cgroup' in hook ? [hook.cgroup] : []));
}

/** The desired probes of the host, by name. */
export function probesOf(desired: Pick<DesiredState, 'probes'> | null): readonly Program[] {
  return desired?.probes ?? [];
}

/** The desired programs of each hook, and the probes of the host. */
export function desiredPlaces(
  state: DesiredState,
): readonly { readonly hook: Hook; readonly programs: readonly Program[] }[] {
  return [...state.chains, { hook: TRACING, programs: probesOf(state) }];
}

/** Normalizes a state: programs by `seqId`, chains by target and attach point, no empty chain, probes by name. */
export function normalize(state: DesiredState): DesiredState {
  const chains = state.chains
    .filter((chain) => chain.programs.length > 0)
    .map((chain) => ({ hook: chain.hook, programs: chain.programs.toSorted((a, b) => a.seqId - b.seqId) }))
    .toSorted((a, b) => compareHooks(a.hook, b.hook));
  const probes = probesOf(state).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return { chains, addresses: state.addresses, ...(probes.length > 0 && { probes }) };
}

function compareHooks(a: ChainHook, b: ChainHook): number {
  const [target, other] = [targetName(a), targetName(b)];
  if (target !== other) return target < other ? -1 : 1;
  return ATTACH_POINT_NAMES.indexOf(a.direction) - ATTACH_POINT_NAMES.indexOf(b.direction);
}
