/** The attach points of every interface, where tests put chains of all kinds. Others have their own tests. */
export const DIRECTIONS = ['xdpingress', 'ingress', 'egress'] as const;
export type Direction = (typeof DIRECTIONS)[number];
