import { type Direction, type Hook, hookKey } from '../../domain/hook.js';
import type { AgentError } from '../../errors.js';
import { check, EBUSY, EEXIST, EINVAL, ENODEV, EOPNOTSUPP, EPERM, kernelError } from './errno.js';
import { Fd, openPin, tryOpenId, tryOpenPin } from './fd.js';
import { libbpf } from './ffi.js';
import { ownProgramIds } from './generations.js';
import { type LinkInfo, linkInfo, programInfo } from './info.js';
import { interfaceNotFound } from './interfaces.js';
import { makeParents, move, pin, unpin } from './pins.js';

/*
 * XDP and TCX links: what holds a program at its hook for as long as the link is pinned.
 */

/** How XDP attaches: in the driver, in the stack, or in the driver if it can. */
export type XdpMode = 'auto' | 'native' | 'generic';

/** `enum bpf_attach_type`. */
export const ATTACH_TYPE = { xdpingress: 37, ingress: 46, egress: 47 } as const satisfies Record<Direction, number>;

/** XDP_FLAGS_DRV_MODE and XDP_FLAGS_SKB_MODE of include/uapi/linux/if_link.h. */
const XDP_FLAGS = { auto: 0, native: 1 << 2, generic: 1 << 1 } as const satisfies Record<XdpMode, number>;

const BPF_F_REPLACE = 1 << 2;

/** Attaches a program and pins the link. A link of ours that is pinned there already is taken over, or replaced if it is dead. */
export function attachLink(
  program: Fd,
  hook: Hook,
  ifindex: number,
  linkPin: string,
  xdp: XdpMode,
  bpffs: string,
): void {
  using standing = tryOpenPin(linkPin);
  if (standing !== undefined) {
    const info = linkInfo(standing.number);
    if (info.ifindex === ifindex) {
      updateLink(standing, program, info);
      return;
    }
    removeLink(linkPin, bpffs);
  }
  using link = createLink(program, hook, ifindex, xdp, bpffs);
  makeParents(linkPin);
  pin(link.number, linkPin);
}

function createLink(program: Fd, hook: Hook, ifindex: number, xdp: XdpMode, bpffs: string): Fd {
  const opts = hook.direction === 'xdpingress' ? createOpts(XDP_FLAGS[xdp]) : null;
  const result = libbpf().bpf_link_create(program.number, ifindex, ATTACH_TYPE[hook.direction], opts);
  if (result >= 0) return new Fd(result);
  if (result === -ENODEV) throw interfaceNotFound(hook.iface);
  if (result === -EBUSY || result === -EEXIST) throw occupied(hook, ifindex, result, bpffs);
  if (result === -EOPNOTSUPP && xdp === 'native') {
    const failed = `The driver of ${hook.iface} cannot run XDP itself; attach with xdp_mode auto or generic`;
    throw kernelError(failed, result, 'ATTACH_FAILED');
  }
  throw kernelError(`The kernel refused to attach to ${hookKey(hook)}`, result, 'ATTACH_FAILED');
}

/** `struct bpf_link_create_opts`. */
function createOpts(flags: number): Buffer {
  const opts = Buffer.alloc(16);
  opts.writeBigUInt64LE(16n, 0);
  opts.writeUInt32LE(flags, 8);
  return opts;
}

function occupied(hook: Hook, ifindex: number, errno: number, bpffs: string): AgentError {
  const id = attachedXdp(ifindex);
  using holder = id === undefined ? undefined : tryOpenId('prog', id);
  if (id === undefined || holder === undefined) {
    return kernelError(`${hookKey(hook)} is held by another program`, errno, 'HOOK_OCCUPIED');
  }
  const whose = ownProgramIds(bpffs, hook.iface).has(id)
    ? 'which is ours, by another link'
    : 'which is not ours; detach it first, or choose another interface';
  const message = `${hookKey(hook)} is held by program ${id} (${programInfo(holder.number).name}), ${whose}`;
  return kernelError(message, errno, 'HOOK_OCCUPIED');
}

/** Id of the program that runs at an interface's XDP hook, whoever attached it and in whichever mode. */
function attachedXdp(ifindex: number): number | undefined {
  const id = Buffer.alloc(4);
  for (const flags of Object.values(XDP_FLAGS)) {
    if (libbpf().bpf_xdp_query_id(ifindex, flags, id) === 0 && id.readUInt32LE() !== 0) return id.readUInt32LE();
  }
  return undefined;
}

/** Whether the kernel knows TCX: it does not refuse to list an interface's TCX programs. */
export function knowsTcx(ifindex: number): boolean {
  const count = Buffer.alloc(4);
  return libbpf().bpf_prog_query(ifindex, ATTACH_TYPE.ingress, 0, null, null, count) !== -EINVAL;
}

/** Swaps the program of a link atomically, provided that the link still has the program that it had when it was looked at. */
function updateLink(link: Fd, program: Fd, { programId }: LinkInfo): void {
  if (programInfo(program.number).id === programId) return;
  using old = tryOpenId('prog', programId);
  const opts = Buffer.alloc(16); // struct bpf_link_update_opts
  opts.writeBigUInt64LE(16n, 0);
  if (old !== undefined) {
    opts.writeUInt32LE(BPF_F_REPLACE, 8);
    opts.writeUInt32LE(old.number, 12);
  }
  const result = libbpf().bpf_link_update(link.number, program.number, opts);
  if (result === -EPERM)
    throw kernelError('Somebody else changed the attached program meanwhile', result, 'ATTACH_FAILED');
  if (result < 0) throw kernelError('The kernel refused to replace the attached program', result, 'ATTACH_FAILED');
}

/** Puts another program into a pinned link and moves the pin; on failure the old program is attached as before. */
export function retargetLink(linkPin: string, program: Fd, newPin: string, bpffs: string): void {
  using link = openPin(linkPin);
  const before = linkInfo(link.number);
  using old = tryOpenId('prog', before.programId);
  updateLink(link, program, before);
  try {
    move(linkPin, newPin, bpffs);
  } catch (error) {
    if (old !== undefined) updateLink(link, old, linkInfo(link.number));
    throw error;
  }
}

/**
 * Detaches and unpins a link. It is detached first and not only unpinned, since whoever else has it open would keep it
 * attached.
 *
 * @returns false if no link is pinned there
 */
export function removeLink(linkPin: string, bpffs: string): boolean {
  using link = tryOpenPin(linkPin);
  if (link === undefined) return false;
  if (linkInfo(link.number).ifindex !== 0) check(libbpf().bpf_link_detach(link.number), `Cannot detach ${linkPin}`);
  unpin(linkPin, bpffs);
  return true;
}
