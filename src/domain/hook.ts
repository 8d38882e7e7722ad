import type { AttachPoint } from './attach-points/attach-point.js';
import { ATTACH_POINTS } from './attach-points/registry.js';

/**
 * A place in the kernel where programs are attached. `direction`, as payloads and l3afd call it, names the attach
 * point.
 */
export type Hook = ChainHook | TracingHook;

/** A hook with a chain. */
export type ChainHook = InterfaceHook | CgroupHook;

/** An attach point of a network interface. */
export interface InterfaceHook {
  readonly iface: string;
  readonly direction: InterfaceAttachPoint;
}

/** An attach point of a control group (version 2). */
export interface CgroupHook {
  /**
   * Path of the group below the mount point of the cgroup file system: `/system.slice/nginx.service`; `/` for the root.
   */
  readonly cgroup: string;
  readonly direction: CgroupAttachPoint;
}

/** All places of probes together: probes at tracepoints and functions belong to the host and have no order. */
export interface TracingHook {
  readonly direction: '';
}

export const TRACING: TracingHook = { direction: '' };

/** The name of an attach point. */
export type AttachPointName = keyof typeof ATTACH_POINTS;
export type InterfaceAttachPoint = AttachPointNameOf<'interface'>;
export type CgroupAttachPoint = AttachPointNameOf<'cgroup'>;
type AttachPointNameOf<Target extends AttachPoint['target']> = {
  [Name in AttachPointName]: (typeof ATTACH_POINTS)[Name]['target'] extends Target ? Name : never;
}[AttachPointName];

/** In the order in which a packet that comes in and goes out again passes them. */
export const ATTACH_POINT_NAMES = Object.keys(ATTACH_POINTS) as readonly AttachPointName[];

export const INTERFACE_ATTACH_POINTS = ATTACH_POINT_NAMES.filter(
  (name): name is InterfaceAttachPoint => !isOfCgroup(name),
);
export const CGROUP_ATTACH_POINTS = ATTACH_POINT_NAMES.filter(isOfCgroup);

/** The attach point of a hook. */
export function attachPointOf({ direction }: ChainHook): AttachPoint {
  return ATTACH_POINTS[direction];
}

/** Whether programs of the same name and version share a folder of public map names with another attach point. */
export function sharesFolder(hook: ChainHook): boolean {
  const { mapFolder } = attachPointOf(hook);
  return Object.values<AttachPoint>(ATTACH_POINTS).filter((point) => point.mapFolder === mapFolder).length > 1;
}

export function isTracing(hook: Hook): hook is TracingHook {
  return hook.direction === '';
}

function isOfCgroup(attachPoint: AttachPointName): attachPoint is CgroupAttachPoint {
  return ATTACH_POINTS[attachPoint].target === 'cgroup';
}

export function isAttachPointName(name: string): name is AttachPointName {
  return Object.hasOwn(ATTACH_POINTS, name);
}

/** Makes the hook for a target and an attach point. */
export function hookOf(target: string, attachPoint: AttachPointName): ChainHook {
  return isOfCgroup(attachPoint)
    ? { cgroup: target, direction: attachPoint }
    : { iface: target, direction: attachPoint };
}

/** The interface name or the control group path of a hook; '' for tracing. */
export function targetName(hook: Hook): string {
  if (isTracing(hook)) return '';
  return 'cgroup' in hook ? hook.cgroup : hook.iface;
}

/** A key that identifies a hook. */
export function hookKey(hook: Hook): string {
  return isTracing(hook) ? 'probes' : `${targetName(hook)}/${hook.direction}`;
}

export function sameHook(a: Hook, b: Hook): boolean {
  return a.direction === b.direction && targetName(a) === targetName(b);
}

/** The code of {@link absence}. */
export function absenceCode(hook: ChainHook): 'CGROUP_NOT_FOUND' | 'INTERFACE_NOT_FOUND' {
  return 'cgroup' in hook ? 'CGROUP_NOT_FOUND' : 'INTERFACE_NOT_FOUND';
}

/** A sentence that says that a hook's interface or control group does not exist. */
export function absence(hook: ChainHook): string {
  return 'cgroup' in hook
    ? `This host has no control group ${hook.cgroup}`
    : `This host has no interface ${hook.iface}`;
}

/**
 * A hook in the form of messages and labels. For tracing, both texts are empty, as in l3afd. A control group takes the
 * place of the interface: its path begins with a slash, which no interface name does.
 */
export function hookFields(hook: ChainHook): { readonly iface: string; readonly direction: AttachPointName };
export function hookFields(hook: Hook): { readonly iface: string; readonly direction: AttachPointName | '' };
export function hookFields(hook: Hook): { readonly iface: string; readonly direction: AttachPointName | '' } {
  return { iface: targetName(hook), direction: hook.direction };
}
