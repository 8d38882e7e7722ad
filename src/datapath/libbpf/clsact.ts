import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { type Hook, hookKey } from '../../domain/hook.js';
import { check, EEXIST, EINVAL, ENODEV, ENOENT, kernelError } from './errno.js';
import { type Fd, tryOpenId } from './fd.js';
import { libbpf } from './ffi.js';
import { programInfo } from './info.js';
import { interfaceNotFound } from './interfaces.js';

/*
 * TC on kernels without TCX: a filter at the interface's clsact qdisc. Ours has a handle and a priority that nobody else is
 * likely to have ("L3" in ASCII), and even there a program that is not ours is left alone.
 *
 * The qdisc is created where it is absent and otherwise taken as it is. It is removed again only if this process created it and
 * nobody has a filter there: an empty clsact costs nothing, but one that goes takes everybody's filters along.
 */

const HANDLE = 0x4c33;
const PRIORITY = 0x4c33;

/** `enum bpf_tc_attach_point`. */
const ATTACH_POINT = { ingress: 1, egress: 2 } as const;
const BPF_TC_F_REPLACE = 1;

export type TcDirection = keyof typeof ATTACH_POINT;

/** Interface indexes whose clsact qdisc this process created. */
const created = new Set<number>();

/** Id of the program in our filter; undefined if there is no such filter. */
export function filteringProgram(ifindex: number, direction: TcDirection): number | undefined {
  const opts = tcOpts();
  const result = libbpf().bpf_tc_query(tcHook(ifindex, direction), opts);
  // EINVAL: no qdisc, or one without any filter yet (tc_get_tfilter in net/sched/cls_api.c).
  if (result === -ENOENT || result === -EINVAL || result === -ENODEV) return undefined;
  check(result, 'Cannot look for our TC filter');
  return opts.readUInt32LE(16);
}

/**
 * Attaches by filter, or puts the program into our filter that is there already.
 *
 * @param isOurs tells whether a program id is one of ours
 */
export function attachFilter(
  program: Fd,
  hook: Hook & { direction: TcDirection },
  ifindex: number,
  isOurs: (id: number) => boolean,
): void {
  const { direction } = hook;
  const { id } = programInfo(program.number);
  const standing = filteringProgram(ifindex, direction);
  if (standing === id) return;
  if (standing !== undefined && !isOurs(standing)) throw occupied(hook, standing);
  const qdisc = libbpf().bpf_tc_hook_create(tcHook(ifindex, direction));
  if (qdisc === 0) created.add(ifindex);
  else if (qdisc === -ENODEV) throw interfaceNotFound(hook.iface);
  else if (qdisc !== -EEXIST)
    throw kernelError(`Cannot create a clsact qdisc on ${hook.iface}`, qdisc, 'ATTACH_FAILED');
  const opts = tcOpts({ program, flags: standing === undefined ? 0 : BPF_TC_F_REPLACE });
  const result = libbpf().bpf_tc_attach(tcHook(ifindex, direction), opts);
  if (result < 0) throw kernelError(`The kernel refused a TC filter at ${hookKey(hook)}`, result, 'ATTACH_FAILED');
}

function occupied(hook: Hook, id: number): Error {
  using holder = tryOpenId('prog', id);
  const name = holder === undefined ? 'gone by now' : programInfo(holder.number).name;
  const message = `The TC filter 0x${HANDLE.toString(16)} at ${hookKey(hook)} is program ${id} (${name}), which is not ours`;
  return kernelError(message, EEXIST, 'HOOK_OCCUPIED');
}

/** Removes our filter; a program there that is not ours is left alone. */
export async function detachFilter(
  ifindex: number,
  iface: string,
  direction: TcDirection,
  isOurs: (id: number) => boolean,
): Promise<void> {
  const standing = filteringProgram(ifindex, direction);
  if (standing === undefined || !isOurs(standing)) return;
  const result = libbpf().bpf_tc_detach(tcHook(ifindex, direction), tcOpts());
  if (result !== -ENOENT && result !== -ENODEV) check(result, `Cannot remove our TC filter from ${iface}`);
  if (created.has(ifindex) && (await hasNoFilters(iface))) {
    created.delete(ifindex);
    libbpf().bpf_tc_hook_destroy(tcHook(ifindex, 'both'));
  }
}

/** Asks iproute2, since libbpf cannot list filters; without it the qdisc is left. */
async function hasNoFilters(iface: string): Promise<boolean> {
  try {
    const lists = await Promise.all(
      (['ingress', 'egress'] as const).map((direction) =>
        promisify(execFile)('tc', ['filter', 'show', 'dev', iface, direction]),
      ),
    );
    return lists.every(({ stdout }) => stdout.trim() === '');
  } catch {
    return false;
  }
}

/** `struct bpf_tc_hook`. */
function tcHook(ifindex: number, direction: TcDirection | 'both'): Buffer {
  const hook = Buffer.alloc(24);
  hook.writeBigUInt64LE(24n, 0);
  hook.writeInt32LE(ifindex, 8);
  hook.writeInt32LE(direction === 'both' ? ATTACH_POINT.ingress | ATTACH_POINT.egress : ATTACH_POINT[direction], 12);
  return hook;
}

/** `struct bpf_tc_opts`. */
function tcOpts(attach?: { program: Fd; flags: number }): Buffer {
  const opts = Buffer.alloc(32);
  opts.writeBigUInt64LE(32n, 0);
  opts.writeInt32LE(attach?.program.number ?? 0, 8);
  opts.writeUInt32LE(attach?.flags ?? 0, 12);
  opts.writeUInt32LE(HANDLE, 20);
  opts.writeUInt32LE(PRIORITY, 24);
  return opts;
}
