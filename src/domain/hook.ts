/** A place in the kernel where a chain hangs. The direction's names are l3afd's. */
export interface Hook {
  readonly iface: string;
  readonly direction: Direction;
}

export type Direction = 'xdpingress' | 'ingress' | 'egress';

/** What probes have in place of a hook: they hang at no interface. Empty texts, as l3afd has it in labels and lists. */
export const NO_HOOK = { iface: '', direction: '' } as const;
export type NoHook = typeof NO_HOOK;

/** In the order in which a packet that comes in and goes out again meets them. */
export const DIRECTIONS: readonly Direction[] = ['xdpingress', 'ingress', 'egress'];

/** The list of a payload's `bpf_programs` that holds the programs of a direction. */
export const PAYLOAD_LIST = {
  xdpingress: 'xdp_ingress',
  ingress: 'tc_ingress',
  egress: 'tc_egress',
} as const satisfies Record<Direction, string>;

/** Whether the programs of a direction are of type XDP or SCHED_CLS. */
export function programKind(direction: Direction): 'xdp' | 'tc' {
  return direction === 'xdpingress' ? 'xdp' : 'tc';
}

export function hookKey(hook: Hook | NoHook): string {
  return hook.direction === '' ? 'probes' : `${hook.iface}/${hook.direction}`;
}

export function sameHook(a: Hook | NoHook, b: Hook | NoHook): boolean {
  return a.iface === b.iface && a.direction === b.direction;
}
