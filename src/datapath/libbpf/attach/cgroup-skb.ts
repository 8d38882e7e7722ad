import { closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type ChainHook, hookKey, targetName } from '../../../domain/hook.js';
import { AgentError } from '../../../errors.js';
import { EEXIST, kernelError } from '../abi/errno.js';
import { libbpf } from '../abi/ffi.js';
import { loadMinimalProgram } from '../diagnostics/minimal-program.js';
import type { AttachDriver } from './driver.js';
import { attachLink, BY_LINK } from './link.js';
import { createOrderedLink, knowsPlaces, orderedPrograms } from './mprog.js';

/** BPF_CGROUP_INET_INGRESS and BPF_CGROUP_INET_EGRESS of `enum bpf_attach_type`. */
const ATTACH_TYPE = { ingress: 0, egress: 1 } as const;

/** One direction of the sockets of a control group. */
export function cgroupSkbDriver(way: keyof typeof ATTACH_TYPE): AttachDriver {
  const attachType = ATTACH_TYPE[way];
  return {
    // BPF_PROG_TYPE_CGROUP_SKB.
    program: { type: 8, expectedAttachType: attachType },
    // BPF_LINK_TYPE_CGROUP.
    linkType: 3,

    attach(program, hook, linkPin, place, { bpffs }) {
      const group = targetName(hook);
      attachLink(program, {
        linkPin,
        bpffs,
        // 0 is the target of no link that is attached.
        targetId: cgroupId(group) ?? 0,
        programsAt: () => programsOf(group, attachType),
        create: () => {
          using target = openGroup(group);
          return createOrderedLink(program, target.number, attachType, place, (errno) => refused(hook, errno));
        },
      });
    },

    ...BY_LINK,

    targetId: (hook) => cgroupId(targetName(hook)),

    attachmentOf: ({ targetId: at }, targetId) => ({ kind: 'cgroup', attached: at !== 0 && at === targetId }),

    programsAt: (hook) => programsOf(targetName(hook), attachType),

    isOrdered: knowsOrder,

    features: way === 'ingress' ? [{ name: 'cgroup_skb', tryOut: tryGroup }] : [],
  };
}

function programsOf(path: string, attachType: number): readonly number[] {
  // A group that was removed meanwhile has none.
  if (!isGroup(path)) return [];
  using group = openGroup(path);
  return orderedPrograms(group.number, attachType);
}

/** Whether a control group exists. */
export function isGroup(path: string): boolean {
  return cgroupId(path) !== undefined;
}

/**
 * The lower half of a control group's id, which is its inode number (include/linux/kernfs.h); undefined if there is no
 * such group.
 */
function cgroupId(path: string): number | undefined {
  const root = mountPoint();
  if (root === undefined) return undefined;
  const found = statSync(join(root, path), { bigint: true, throwIfNoEntry: false });
  return found?.isDirectory() === true ? Number(found.ino & 0xffffffffn) : undefined;
}

interface OpenGroup extends Disposable {
  readonly number: number;
}

/** @throws AgentError CGROUP_NOT_FOUND */
function openGroup(path: string): OpenGroup {
  const root = mountPoint();
  if (root === undefined) throw notFound(path, undefined, '; no cgroup file system of version 2 is mounted');
  try {
    const number = openSync(join(root, path), constants.O_RDONLY | constants.O_DIRECTORY);
    return { number, [Symbol.dispose]: () => closeSync(number) };
  } catch (cause) {
    throw notFound(path, cause, '');
  }
}

function notFound(path: string, cause: unknown, why: string): AgentError {
  return new AgentError('CGROUP_NOT_FOUND', `This host has no control group ${path}${why}`, { cause });
}

/** Where cgroup v2 is mounted; in a container, the mount point of the container. */
function mountPoint(): string | undefined {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return mounts.map((line) => line.split(' ')).find(([, , type]) => type === 'cgroup2')?.[1];
}

/** Before Linux 6.17, the programs of a control group run in the order in which they were attached. */
function knowsOrder(): boolean {
  if (mountPoint() === undefined) return false;
  using group = openGroup('/');
  using program = loadMinimalProgram('cgroupSkb');
  return knowsPlaces(program, group.number, ATTACH_TYPE.ingress);
}

function refused(hook: ChainHook, errno: number): AgentError {
  const at = hookKey(hook);
  if (errno === -EEXIST)
    return kernelError(`The program is already attached to ${at} by another link`, errno, 'HOOK_OCCUPIED');
  return kernelError(`The kernel refused to attach to ${at}`, errno, 'ATTACH_FAILED');
}

function tryGroup(): undefined {
  if (mountPoint() === undefined) throw new Error('no cgroup file system of version 2 is mounted');
  using group = openGroup('/');
  const result = libbpf().bpf_prog_query(group.number, ATTACH_TYPE.ingress, 0, null, null, Buffer.alloc(4));
  if (result < 0) throw kernelError('the kernel does not support programs at control groups', result);
}
