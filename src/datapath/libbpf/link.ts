import { existsSync } from 'node:fs';
import { type Direction, type Hook, hookKey } from '../../domain/hook.js';
import type { Place } from '../../domain/step.js';
import type { AgentError } from '../../errors.js';
import type { XdpMode } from '../datapath.js';
import { check, EBUSY, EEXIST, ENODEV, EOPNOTSUPP, EPERM, ERANGE, kernelError } from './errno.js';
import { Fd, openPin, tryOpenId, tryOpenPin } from './fd.js';
import { libbpf } from './ffi.js';
import { ownProgramIds } from './generations.js';
import { type LinkInfo, linkInfo, programInfo } from './info.js';
import { interfaceNotFound } from './interfaces.js';
import { disableLro } from './lro.js';
import { makeParents, move, pinInPlace, unpin } from './pins.js';
import { createLinkNextTo, TCX_ATTACH_TYPE } from './tcx.js';
import { XDP_FLAGS, xdpPrograms } from './xdp.js';

/*
 * XDP and TCX links: what holds a program at its hook for as long as the link is pinned.
 */

/** `enum bpf_attach_type`. */
export const ATTACH_TYPE = { xdpingress: 37, ...TCX_ATTACH_TYPE } as const satisfies Record<Direction, number>;

const BPF_F_REPLACE = 1 << 2;

export interface LinkRequest {
  readonly hook: Hook;
  readonly ifindex: number;
  readonly linkPin: string;
  /** Among our own TCX links; null: behind everything that is there. */
  readonly place: Place | null;
  readonly xdp: XdpMode;
  readonly bpffs: string;
}

/** Attaches a program and pins the link. A link of ours that is pinned there already is taken over, or replaced if it is dead. */
export function attachLink(program: Fd, request: LinkRequest): void {
  const { ifindex, linkPin, bpffs } = request;
  using standing = tryOpenPin('link', linkPin);
  if (standing !== undefined) {
    const info = linkInfo(standing.number);
    if (info.ifindex === ifindex) {
      updateLink(standing, program, info);
      return;
    }
    removeLink(linkPin, bpffs);
  }
  using link = createLink(program, request);
  makeParents(linkPin);
  pinInPlace(link.number, linkPin);
}

function createLink(program: Fd, request: LinkRequest): Fd {
  const { hook, ifindex, xdp, bpffs } = request;
  const result = tryCreate(program, request);
  if (result >= 0) return new Fd(result);
  if (result === -ENODEV) throw interfaceNotFound(hook.iface);
  if (hook.direction !== 'xdpingress') throw refusedByTcx(hook, result);
  if (result === -EBUSY || result === -EEXIST) throw occupied(hook, ifindex, result, bpffs);
  if (result === -EOPNOTSUPP && xdp === 'native') {
    const failed = `The driver of ${hook.iface} cannot run XDP itself; attach with xdp_mode auto or generic`;
    throw kernelError(failed, result, 'ATTACH_FAILED');
  }
  throw kernelError(`The kernel refused to attach to ${hookKey(hook)}`, result, 'ATTACH_FAILED');
}

function tryCreate(program: Fd, { hook, ifindex, place, xdp }: LinkRequest): number {
  const { iface, direction } = hook;
  if (direction === 'xdpingress') {
    disableLro(iface);
    return libbpf().bpf_link_create(program.number, ifindex, ATTACH_TYPE[direction], createOpts(XDP_FLAGS[xdp]));
  }
  if (place === null) return libbpf().bpf_link_create(program.number, ifindex, ATTACH_TYPE[direction], null);
  using neighbour = openPin('link', place.link);
  return createLinkNextTo({ side: place.side, link: neighbour }, program, ifindex, direction);
}

function refusedByTcx(hook: Hook, errno: number): AgentError {
  const at = hookKey(hook);
  if (errno === -EEXIST) return kernelError(`The program is attached to ${at} by another link`, errno, 'HOOK_OCCUPIED');
  const why = errno === -ERANGE ? ': as many TCX programs as the kernel allows are there already' : '';
  return kernelError(`The kernel refused to attach to ${at}${why}`, errno, 'ATTACH_FAILED');
}

/** `struct bpf_link_create_opts`. */
function createOpts(flags: number): Buffer {
  const opts = Buffer.alloc(16);
  opts.writeBigUInt64LE(16n, 0);
  opts.writeUInt32LE(flags, 8);
  return opts;
}

function occupied(hook: Hook, ifindex: number, errno: number, bpffs: string): AgentError {
  const [id] = xdpPrograms(ifindex).values();
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

/**
 * Puts another program into a pinned link and moves the pin, if it has not been moved already; on failure the old program is attached
 * as before.
 */
export function retargetLink(linkPin: string, program: Fd, newPin: string, bpffs: string): void {
  const there = existsSync(linkPin) ? linkPin : newPin;
  using link = openPin('link', there);
  const before = linkInfo(link.number);
  using old = tryOpenId('prog', before.programId);
  updateLink(link, program, before);
  try {
    move(there, newPin, bpffs);
  } catch (error) {
    if (old !== undefined) updateLink(link, old, linkInfo(link.number));
    throw error;
  }
}

/**
 * Detaches and unpins a link. Detached and not only unpinned, since whoever else has it open would keep it attached; and unpinned first,
 * since a pin that cannot be removed must not be left with a dead link.
 *
 * @returns false if no link is pinned there
 */
export function removeLink(linkPin: string, bpffs: string): boolean {
  using link = tryOpenPin('link', linkPin);
  if (link === undefined) return false;
  const isAttached = linkInfo(link.number).ifindex !== 0;
  unpin(linkPin, bpffs);
  if (isAttached) check(libbpf().bpf_link_detach(link.number), `Cannot detach ${linkPin}`);
  return true;
}
