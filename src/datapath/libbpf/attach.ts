import type { Hook } from '../../domain/hook.js';
import type { Place } from '../../domain/step.js';
import type { LinkRef, XdpMode } from '../datapath.js';
import { attachFilter, detachFilter, filteringProgram, type TcDirection } from './clsact.js';
import { openPin, tryOpenPin } from './fd.js';
import { ownProgramIds } from './generations.js';
import { interfaceIndex, interfaces } from './interfaces.js';
import { attachLink, removeLink, retargetLink } from './link.js';
import { knowsTcx } from './tcx.js';

/** How TC attaches: by TCX link (kernel 6.6), by clsact filter, or by TCX where the kernel has it. */
export type TcMode = 'auto' | 'tcx' | 'clsact';

export interface AttachOptions {
  readonly bpffs: string;
  readonly xdp: XdpMode;
  readonly tc: TcMode;
}

type TcHook = Hook & { readonly direction: TcDirection };

/** See `Datapath.attach`. */
export function attach(
  hook: Hook,
  programPin: string,
  linkPin: string,
  place: Place | null,
  options: AttachOptions,
): void {
  const ifindex = interfaceIndex(hook.iface);
  using program = openPin('prog', programPin);
  // What the mode was when the chain was attached, its neighbour or its missing pin tells: this may be the way back to it.
  if (isTc(hook) && place === null && (linkPin === '' || byFilter(ifindex, options.tc))) {
    attachFilter(program, hook, ifindex, ownership(hook, options));
  } else {
    attachLink(program, { hook, ifindex, linkPin, place, ...options });
  }
}

/** See `Datapath.ordersLinks`. */
export function ordersLinks(mode: TcMode): boolean {
  const [anyInterface] = interfaces().values();
  return anyInterface !== undefined && !byFilter(anyInterface, mode);
}

/** See `Datapath.retarget`. A filter has no link, so that `from.link` names no pin. */
export function retarget(hook: Hook, from: LinkRef, to: LinkRef, options: AttachOptions): void {
  using program = openPin('prog', to.program);
  const ifindex = interfaceIndex(hook.iface);
  if (isTc(hook) && !isPinned(from.link) && filteringProgram(ifindex, hook.direction) !== undefined) {
    attachFilter(program, hook, ifindex, ownership(hook, options));
  } else {
    retargetLink(from.link, program, to.link, options.bpffs);
  }
}

/** See `Datapath.detach`. A hook has either a link, and then a pin, or a filter. */
export function detach(hook: Hook, linkPin: string, options: AttachOptions): void {
  if (linkPin !== '' && removeLink(linkPin, options.bpffs)) return;
  const ifindex = interfaces().get(hook.iface);
  if (ifindex === undefined || !isTc(hook)) return;
  detachFilter(hook, ifindex, ownership(hook, options));
}

function byFilter(ifindex: number, mode: TcMode): boolean {
  return mode === 'clsact' || (mode === 'auto' && !knowsTcx(ifindex));
}

function isTc(hook: Hook): hook is TcHook {
  return hook.direction !== 'xdpingress';
}

function isPinned(path: string): boolean {
  if (path === '') return false;
  using pinned = tryOpenPin('link', path);
  return pinned !== undefined;
}

/** Asked seldom and read each time: what is ours is what is pinned as ours. */
function ownership(hook: Hook, { bpffs }: AttachOptions): (programId: number) => boolean {
  return (programId) => ownProgramIds(bpffs, hook.iface).has(programId);
}
