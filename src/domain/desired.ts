import { DIRECTIONS, type Hook, NO_HOOK, type NoHook, sameHook } from './hook.js';
import type { Program } from './program.js';

/** The programs asked for at one hook, by ascending `seqId`, disabled ones included; never empty. */
export interface Chain {
  readonly hook: Hook;
  readonly programs: readonly Program[];
}

/** What the last applied commands ask of this host. */
export interface DesiredState {
  /** At most one per hook, by interface and direction. */
  readonly chains: readonly Chain[];
  /** `ipv4_address` of each interface that a command named: a label of metrics. */
  readonly addresses: Readonly<Record<string, string>>;
  /** The probes of the host, disabled ones included, by name, which is unique among them; absent for none. */
  readonly probes?: readonly Program[];
}

export const NOTHING_DESIRED: DesiredState = { chains: [], addresses: {} };

/** The programs desired at a hook, by ascending `seqId`. */
export function programsAt(desired: DesiredState, hook: Hook): readonly Program[] {
  return desired.chains.find((chain) => sameHook(chain.hook, hook))?.programs ?? [];
}

/** The probes desired on the host, by name. */
export function probesOf(desired: Pick<DesiredState, 'probes'> | null): readonly Program[] {
  return desired?.probes ?? [];
}

/** What is desired where: at each hook, and of the host the probes. */
export function desiredPlaces(
  state: DesiredState,
): readonly { readonly hook: Hook | NoHook; readonly programs: readonly Program[] }[] {
  return [...state.chains, { hook: NO_HOOK, programs: probesOf(state) }];
}

/** Brings a state into its one form: programs by `seqId`, chains by interface and direction, none empty; probes by name. */
export function normalize(state: DesiredState): DesiredState {
  const chains = state.chains
    .filter((chain) => chain.programs.length > 0)
    .map((chain) => ({ hook: chain.hook, programs: chain.programs.toSorted((a, b) => a.seqId - b.seqId) }))
    .toSorted((a, b) => compareHooks(a.hook, b.hook));
  const probes = probesOf(state).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return { chains, addresses: state.addresses, ...(probes.length > 0 && { probes }) };
}

function compareHooks(a: Hook, b: Hook): number {
  if (a.iface !== b.iface) return a.iface < b.iface ? -1 : 1;
  return DIRECTIONS.indexOf(a.direction) - DIRECTIONS.indexOf(b.direction);
}
