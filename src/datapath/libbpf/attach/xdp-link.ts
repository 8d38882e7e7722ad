import { readdirSync } from 'node:fs';
import { type ChainHook, hookKey, targetName } from '../../../domain/hook.js';
import type { AgentError } from '../../../errors.js';
import type { XdpMode } from '../../datapath.js';
import { EBUSY, EEXIST, ENODEV, errnoWords, kernelError } from '../abi/errno.js';
import { Fd, openPin, tryOpenId, tryOpenPin } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { linkInfo, programInfo } from '../abi/info.js';
import { interfaceNotFound, interfaces } from '../abi/interfaces.js';
import { LINK_CREATE_OPTS } from '../abi/structs.js';
import { graceAtOnce } from '../objects/grace.js';
import { Messages } from '../objects/libbpf-print.js';
import { linkPins, ownProgramIds } from '../pins/loads.js';
import { makeParents, pinInPlace } from '../pins/pins.js';
import { removeLink, retargetLink, strayLinks } from './link.js';
import { disableLro } from './lro.js';
import { XDP_FLAGS, xdpPrograms } from './xdp-query.js';

/*
 * New XDP links, and what can be in their way.
 */

/** BPF_XDP of `enum bpf_attach_type`, and BPF_LINK_TYPE_XDP of `enum bpf_link_type`. */
export const BPF_XDP = 37;
export const BPF_LINK_TYPE_XDP = 6;

/** Where to attach, and how. */
export interface XdpPlace {
  readonly hook: ChainHook;
  readonly ifindex: number;
  readonly mode: XdpMode;
  /** Where the link will be pinned. */
  readonly linkPin: string;
  readonly bpffs: string;
  /** Called in the mode `auto` when the driver refuses and the network stack takes the program, with the driver's words. */
  readonly onRefused?: (words: string) => void;
  /** Called with the devices above from which programs were taken for a moment. */
  readonly onLifted?: (interfaces: readonly string[]) => void;
}

/**
 * Attaches a program by a new link. In the mode `auto` in the driver, or in the network stack if the driver refuses.
 *
 * @throws AgentError INTERFACE_NOT_FOUND; HOOK_OCCUPIED naming what is in the way, here or at a device above; ATTACH_FAILED
 *   in the words of the driver
 */
export function createXdpLink(program: Fd, place: XdpPlace): Fd {
  disableLro(targetName(place.hook));
  const result = tryAttach(program, place);
  if (result >= 0) return new Fd(result);
  if (result === -ENODEV) throw interfaceNotFound(targetName(place.hook));
  if (result === -EBUSY || result === -EEXIST) return createInSpiteOf(result, program, place);
  throw refusal(program, place, result);
}

/** errno of what is refused for another reason than the driver's. */
const IN_THE_WAY: ReadonlySet<number> = new Set([-ENODEV, -EBUSY, -EEXIST]);

/**
 * The network stack is tried for whatever reason the driver refuses, also for `xdp.frags` programs. A link that exists
 * keeps its mode.
 *
 * @returns the link's descriptor, or the negative errno of the first attempt
 */
function tryAttach(
  program: Fd,
  { ifindex, mode, onRefused }: Pick<XdpPlace, 'ifindex' | 'mode' | 'onRefused'>,
): number {
  const result = tryCreate(program, ifindex, XDP_FLAGS[mode]);
  if (result >= 0 || mode !== 'auto' || IN_THE_WAY.has(result)) return result;
  // Before the next attempt: after it, the kernel would only say that there is a program already.
  const words = wordsOfDriver(program, ifindex, mode) ?? errnoWords(result);
  const fallback = tryCreate(program, ifindex, XDP_FLAGS.generic);
  if (fallback < 0) return result;
  onRefused?.(words);
  return fallback;
}

/**
 * @param flags of include/uapi/linux/if_link.h
 * @returns the link's descriptor, or a negative errno
 */
function tryCreate(program: Fd, ifindex: number, flags: number): number {
  const opts = LINK_CREATE_OPTS.make({ sz: LINK_CREATE_OPTS.size, flags });
  return libbpf().bpf_link_create(program.number, ifindex, BPF_XDP, opts);
}

/** Where the kernel says that something is in the way: makes room if that is ours. */
function createInSpiteOf(errno: number, program: Fd, place: XdpPlace): Fd {
  const { hook, ifindex, bpffs } = place;
  const [stray] = strayLinks(hook, BPF_LINK_TYPE_XDP, ifindex, bpffs);
  if (stray !== undefined) return takeOver(stray, program, place);
  if (xdpPrograms(ifindex).size > 0) throw occupied(hook, ifindex, errno, bpffs);
  // "Cannot attach when an upper device already has a program" (dev_xdp_attach in net/core/dev.c).
  const uppers = uppersWithPrograms(targetName(hook), bpffs);
  const foreign = uppers.find(({ link }) => link === undefined);
  if (uppers.length === 0) throw refusal(program, place, errno);
  if (foreign !== undefined) throw heldByUpper(hook, foreign, errno);
  return createBelow(uppers, program, place);
}

/**
 * Puts the program into a link of ours that is here under a former name of the interface, and moves the pin. No packet
 * passes meanwhile without a program.
 */
function takeOver(stray: string, program: Fd, place: XdpPlace): Fd {
  const { linkPin, bpffs } = place;
  try {
    retargetLink(stray, program, linkPin, bpffs);
  } catch {
    // A link stays where it runs, in the driver or in the stack, and that may not take this program.
    removeLink(stray, bpffs);
    const result = tryAttach(program, place);
    if (result < 0) throw refusal(program, place, result);
    return new Fd(result);
  }
  // The programs of the former chain are removed next, as those of a link that is dead.
  graceAtOnce();
  return openPin('link', linkPin);
}

/** A device above another one, for example a bridge above its port, that has an XDP program. */
interface Upper {
  readonly iface: string;
  readonly ifindex: number;
  readonly programId: number;
  /** Pin of our link that holds the program; undefined if it is not ours. */
  readonly link: string | undefined;
}

function uppersWithPrograms(iface: string, bpffs: string): Upper[] {
  const present = interfaces();
  const names = readdirSync(`/sys/class/net/${iface}`).filter((name) => name.startsWith('upper_'));
  return names.flatMap((name): Upper[] => {
    const upper = name.slice('upper_'.length);
    const ifindex = present.get(upper);
    const [programId] = ifindex === undefined ? [] : xdpPrograms(ifindex).values();
    if (ifindex === undefined || programId === undefined) return [];
    return [{ iface: upper, ifindex, programId, link: ownLinkAt(ifindex, programId, bpffs) }];
  });
}

function ownLinkAt(ifindex: number, programId: number, bpffs: string): string | undefined {
  for (const { path } of linkPins(bpffs)) {
    using link = tryOpenPin('link', path);
    const info = link === undefined ? undefined : linkInfo(link.number);
    if (info?.type === BPF_LINK_TYPE_XDP && info.targetId === ifindex && info.programId === programId) return path;
  }
  return undefined;
}

/**
 * The kernel takes a program on a device only before one on the device above it. So the programs above are detached, and
 * attached again when the one below is there. For these few calls, packets pass the devices above unseen.
 */
function createBelow(uppers: readonly Upper[], program: Fd, place: XdpPlace): Fd {
  const held = uppers.flatMap((upper) => {
    const above = tryOpenId('prog', upper.programId);
    return above === undefined ? [] : [{ upper, program: above }];
  });
  const putBack = () => {
    for (const { upper, program: above } of held) {
      if (upper.link === undefined || xdpPrograms(upper.ifindex).size > 0) continue;
      const result = tryAttach(above, { ifindex: upper.ifindex, mode: place.mode });
      if (result < 0) throw heldByUpper(place.hook, upper, result);
      using link = new Fd(result);
      makeParents(upper.link);
      pinInPlace(link.number, upper.link);
    }
  };
  try {
    for (const { upper } of held) if (upper.link !== undefined) removeLink(upper.link, place.bpffs);
    const result = tryAttach(program, place);
    if (result < 0) {
      putBack();
      throw refusal(program, place, result);
    }
    const lower = new Fd(result);
    try {
      putBack();
      place.onLifted?.(held.map(({ upper }) => upper.iface));
      return lower;
    } catch (error) {
      // A bond takes no program while one of its ports has one (bond_xdp_set in drivers/net/bonding/bond_main.c).
      lower[Symbol.dispose]();
      putBack();
      throw error;
    }
  } finally {
    for (const { program: above } of held) above[Symbol.dispose]();
  }
}

function heldByUpper(hook: ChainHook, { iface, programId, link }: Upper, errno: number): AgentError {
  const whose =
    link === undefined
      ? `which is not ours; detach it first, attach to ${targetName(hook)}, and attach it again`
      : 'and the kernel does not take it again above another program; use XDP on only one of them';
  const message = `${iface}, the device above ${targetName(hook)}, has XDP program ${programId}, ${whose}`;
  return kernelError(message, errno, 'HOOK_OCCUPIED');
}

/** Why an interface takes no XDP program, in the words of its driver. */
function refusal(program: Fd, { hook, ifindex, mode }: XdpPlace, errno: number): AgentError {
  const words = wordsOfDriver(program, ifindex, mode);
  const because = words === undefined ? '' : `: ${words}`;
  const advice = mode === 'native' ? '; set xdp_mode to auto or generic' : '';
  const failed = `The kernel refused to attach to ${hookKey(hook)}${because}${advice}`;
  return kernelError(failed, errno, 'ATTACH_FAILED');
}

/** XDP_FLAGS_UPDATE_IF_NOEXIST of include/uapi/linux/if_link.h. */
const IF_NONE_EXISTS = 1 << 0;

/**
 * A link gives only an errno, but netlink gives a sentence too (its extended acknowledgement), which libbpf prints. So
 * the same is tried again by netlink.
 */
function wordsOfDriver(program: Fd, ifindex: number, mode: XdpMode): string | undefined {
  const flags = XDP_FLAGS[mode] | IF_NONE_EXISTS;
  using messages = Messages.collect();
  if (libbpf().bpf_xdp_attach(ifindex, program.number, flags, null) >= 0) {
    libbpf().bpf_xdp_detach(ifindex, XDP_FLAGS[mode], null);
    return undefined;
  }
  return /Kernel error message: (.+)/.exec(messages.text)?.[1]?.replace(/\.$/, '');
}

/** @throws AgentError HOOK_OCCUPIED naming the foreign program, here or at a device above */
export function checkNoForeign(hook: ChainHook, ifindex: number, bpffs: string): void {
  const own = ownProgramIds(bpffs);
  if ([...xdpPrograms(ifindex).values()].some((id) => !own.has(id))) throw occupied(hook, ifindex, EBUSY, bpffs);
  const [foreign] = uppersWithPrograms(targetName(hook), bpffs).filter(({ link }) => link === undefined);
  if (foreign !== undefined) throw heldByUpper(hook, foreign, EEXIST);
}

function occupied(hook: ChainHook, ifindex: number, errno: number, bpffs: string): AgentError {
  const [id] = xdpPrograms(ifindex).values();
  using holder = id === undefined ? undefined : tryOpenId('prog', id);
  if (id === undefined || holder === undefined) {
    return kernelError(`${hookKey(hook)} is held by another program`, errno, 'HOOK_OCCUPIED');
  }
  const whose = ownProgramIds(bpffs).has(id)
    ? 'which is ours, by another link'
    : 'which is not ours; detach it first, or choose another interface';
  const message = `${hookKey(hook)} is held by program ${id} (${programInfo(holder.number).name}), ${whose}`;
  return kernelError(message, errno, 'HOOK_OCCUPIED');
}
