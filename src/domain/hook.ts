/** A place in the kernel where a chain hangs. The direction's names are l3afd's. */
export interface Hook {
  readonly iface: string;
  readonly direction: Direction;
}

export type Direction = 'xdpingress' | 'ingress' | 'egress';

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

export function hookKey(hook: Hook): string {
  return `${hook.iface}/${hook.direction}`;
}

export function sameHook(a: Hook, b: Hook): boolean {
  return a.iface === b.iface && a.direction === b.direction;
}
