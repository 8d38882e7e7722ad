import { existsSync } from 'node:fs';
import { type ChainHook, sameHook } from '../../../domain/hook.js';
import { check, EPERM, kernelError } from '../abi/errno.js';
import { type Fd, openPin, tryOpenId, tryOpenPin } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { type LinkInfo, linkInfo, programInfo } from '../abi/info.js';
import { LINK_UPDATE_OPTS } from '../abi/structs.js';
import { linkPins } from '../pins/loads.js';
import { makeParents, move, pinInPlace, unpin } from '../pins/pins.js';
import type { AttachDriver } from './driver.js';

/*
 * Links: they hold a program at its hook while they are pinned.
 */

const BPF_F_REPLACE = 1 << 2;

export interface LinkRequest {
  readonly linkPin: string;
  readonly bpffs: string;
  /** The `targetId` of a link at this hook. */
  readonly targetId: number;
  /** Asks the hook for the ids of its programs. A link that says the right target may be elsewhere; see `observe`. */
  readonly programsAt: () => readonly number[];
  readonly create: () => Fd;
}

/**
 * Attaches a program and pins the link. If a link of ours is pinned there already, it is used, or replaced if it is
 * dead.
 */
export function attachLink(program: Fd, { linkPin, bpffs, targetId, programsAt, create }: LinkRequest): void {
  using standing = tryOpenPin('link', linkPin);
  if (standing !== undefined) {
    const info = linkInfo(standing.number);
    if (info.targetId === targetId && programsAt().includes(info.programId)) {
      updateLink(standing, program, info);
      return;
    }
    removeLink(linkPin, bpffs);
  }
  using link = create();
  if (isPinnedAt(link, linkPin)) return;
  makeParents(linkPin);
  pinInPlace(link.number, linkPin);
}

/** Whether the link was not created but taken over, with its pin. */
function isPinnedAt(link: Fd, linkPin: string): boolean {
  using pinned = existsSync(linkPin) ? tryOpenPin('link', linkPin) : undefined;
  return pinned !== undefined && linkInfo(pinned.number).id === linkInfo(link.number).id;
}

/** Swaps the program of a link atomically, if the link still has the program that it had when it was read. */
function updateLink(link: Fd, program: Fd, { programId }: LinkInfo): void {
  if (programInfo(program.number).id === programId) return;
  using old = tryOpenId('prog', programId);
  const replaced = old === undefined ? {} : { flags: BPF_F_REPLACE, old_prog_fd: old.number };
  const opts = LINK_UPDATE_OPTS.make({ sz: LINK_UPDATE_OPTS.size, ...replaced });
  const result = libbpf().bpf_link_update(link.number, program.number, opts);
  if (result === -EPERM)
    throw kernelError('The attached program was changed by somebody else in the meantime', result, 'ATTACH_FAILED');
  if (result < 0) {
    // A link stays where it runs: in the driver, which may not take this program, as long as there is no other link.
    const advice = 'delete the program and deploy it again, which is no replacement; packets pass without it meanwhile';
    throw kernelError(`The kernel refused to replace the attached program; ${advice}`, result, 'ATTACH_FAILED');
  }
}

/**
 * Puts another program into a pinned link and moves the pin, unless it has been moved already. On failure the old
 * program stays attached.
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
 * Detaches and unpins a link. Unpinning is not enough: anyone else who has the link open would keep it attached. The
 * pin is removed first, so that a pin that cannot be removed never leads to a dead link.
 *
 * @returns false if no link is pinned there
 */
export function removeLink(linkPin: string, bpffs: string): boolean {
  using link = tryOpenPin('link', linkPin);
  if (link === undefined) return false;
  const isAttached = linkInfo(link.number).targetId !== 0;
  unpin(linkPin, bpffs);
  if (isAttached) check(libbpf().bpf_link_detach(link.number), `Cannot detach ${linkPin}`);
  return true;
}

/**
 * Pins of those of our links that are at this place but pinned for another one: their interface was renamed.
 *
 * @param linkType `enum bpf_link_type`
 */
export function strayLinks(hook: ChainHook, linkType: number, targetId: number, bpffs: string): readonly string[] {
  return [...linkPins(bpffs)].flatMap(({ hook: other, path }) => {
    if (other === undefined || other.direction !== hook.direction || sameHook(other, hook)) return [];
    using link = tryOpenPin('link', path);
    const info = link === undefined ? undefined : linkInfo(link.number);
    return info?.type === linkType && info.targetId === targetId ? [path] : [];
  });
}

/**
 * For hooks that take several programs: makes a link, and then ends those that a former name of the interface has left
 * there. Otherwise the old chain would go on beside the new one.
 */
export function createInsteadOfStrays(
  create: () => Fd,
  { hook, linkType, targetId, bpffs }: { hook: ChainHook; linkType: number; targetId: number; bpffs: string },
): Fd {
  const link = create();
  try {
    for (const stray of strayLinks(hook, linkType, targetId, bpffs)) removeLink(stray, bpffs);
    return link;
  } catch (error) {
    link[Symbol.dispose]();
    throw error;
  }
}

/** How a driver changes and ends its attachments if all of them are links. */
export const BY_LINK: Pick<AttachDriver, 'retarget' | 'detach'> = {
  retarget(program, _hook, from, to, { bpffs }) {
    retargetLink(from.link, program, to.link, bpffs);
  },

  detach(_hook, linkPin, { bpffs }) {
    if (linkPin !== '') removeLink(linkPin, bpffs);
  },
};
