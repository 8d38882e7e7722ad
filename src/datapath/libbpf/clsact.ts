import { type Hook, hookKey } from '../../domain/hook.js';
import { AgentError } from '../../errors.js';
import { check, EEXIST, EINVAL, ENODEV, ENOENT, kernelError } from './errno.js';
import { type Fd, tryOpenId } from './fd.js';
import { libbpf } from './ffi.js';
import { programInfo } from './info.js';
import { interfaceNotFound } from './interfaces.js';
import { clsactHasFilters, qdiscsOf, TC_H_CLSACT, TC_H_ROOT } from './qdiscs.js';

/*
 * TC on kernels without TCX: a filter at a qdisc. Ours has a handle and a priority that nobody else is likely to have ("L3" in
 * ASCII), and even there a program that is not ours is left alone.
 *
 * The place is clsact, which is created where it is absent. Where an `ingress` qdisc has its place already, that is taken for what comes
 * in, and for what goes out the root, if it is `htb`: what l3afd does on such hosts. Nobody's qdisc is ever replaced. A clsact is
 * removed again only if this process created it and nobody has a filter there: an empty one costs nothing, but one that goes takes
 * everybody's filters along.
 */

const HANDLE = 0x4c33;
const PRIORITY = 0x4c33;

/** `enum bpf_tc_attach_point`. */
const ATTACH_POINT = { ingress: 1, egress: 2 } as const;
const BPF_TC_CUSTOM = 4;
const BPF_TC_F_REPLACE = 1;

export type TcDirection = keyof typeof ATTACH_POINT;
type TcHook = Hook & { readonly direction: TcDirection };

/** Where filters of one direction hang: a `struct bpf_tc_hook` in the making. */
interface Place {
  readonly ifindex: number;
  readonly attachPoint: number;
  /** Handle of the qdisc, for BPF_TC_CUSTOM. */
  readonly parent: number;
}

/** Interface indexes whose clsact qdisc this process created. */
const created = new Set<number>();

/** Id of the program in our filter; undefined if there is no such filter. */
export function filteringProgram(ifindex: number, direction: TcDirection): number | undefined {
  return filtersOf(ifindex, direction)[0]?.programId;
}

/**
 * Attaches by filter, or puts the program into our filter that is there already.
 *
 * @param isOurs tells whether a program id is one of ours
 */
export function attachFilter(program: Fd, hook: TcHook, ifindex: number, isOurs: (id: number) => boolean): void {
  const { id } = programInfo(program.number);
  const standing = filtersOf(ifindex, hook.direction);
  const ours = standing.find(({ programId }) => isOurs(programId));
  if (ours?.programId === id) return;
  const place = ours?.place ?? placesOf(ifindex, hook.direction)[0] ?? createPlace(hook, ifindex);
  const stranger = ours === undefined ? standing.find((filter) => isSame(filter.place, place)) : undefined;
  if (stranger !== undefined) throw occupied(hook, stranger.programId);
  const opts = tcOpts({ program, flags: ours === undefined ? 0 : BPF_TC_F_REPLACE });
  const result = libbpf().bpf_tc_attach(tcHook(place), opts);
  if (result < 0) throw kernelError(`The kernel refused a TC filter at ${hookKey(hook)}`, result, 'ATTACH_FAILED');
}

/** Removes our filter; a program there that is not ours is left alone. */
export function detachFilter({ iface, direction }: TcHook, ifindex: number, isOurs: (id: number) => boolean): void {
  const ours = filtersOf(ifindex, direction).filter(({ programId }) => isOurs(programId));
  for (const { place } of ours) {
    const result = libbpf().bpf_tc_detach(tcHook(place), tcOpts());
    if (result !== -ENOENT && result !== -ENODEV) check(result, `Cannot remove our TC filter from ${iface}`);
  }
  if (ours.length === 0 || !created.has(ifindex) || clsactHasFilters(ifindex)) return;
  created.delete(ifindex);
  libbpf().bpf_tc_hook_destroy(tcHook(bothSidesOf(ifindex)));
}

/** The places that there are for filters of a direction, best first. */
function placesOf(ifindex: number, direction: TcDirection): Place[] {
  const qdiscs = qdiscsOf(ifindex);
  const inner = qdiscs.find(({ parent }) => parent === TC_H_CLSACT)?.kind;
  const root = qdiscs.find(({ parent }) => parent === TC_H_ROOT);
  // An ingress qdisc takes filters for clsact's egress, too, and runs them on what comes in (ingress_tcf_block in net/sched/sch_ingress.c).
  const atClsact = inner === 'clsact' || (inner === 'ingress' && direction === 'ingress');
  const atRoot = direction === 'egress' && root?.kind === 'htb';
  return [
    ...(atClsact ? [{ ifindex, attachPoint: ATTACH_POINT[direction], parent: 0 }] : []),
    ...(atRoot ? [{ ifindex, attachPoint: BPF_TC_CUSTOM, parent: root.handle }] : []),
  ];
}

/** Filters with our handle and priority, in all places: qdiscs may have come and gone since ours was made. */
function filtersOf(ifindex: number, direction: TcDirection): { place: Place; programId: number }[] {
  return placesOf(ifindex, direction).flatMap((place) => {
    const opts = tcOpts();
    const result = libbpf().bpf_tc_query(tcHook(place), opts);
    // EINVAL: a qdisc without any filter yet (tc_get_tfilter in net/sched/cls_api.c).
    if (result === -ENOENT || result === -EINVAL || result === -ENODEV) return [];
    check(result, 'Cannot look for our TC filter');
    return [{ place, programId: opts.readUInt32LE(16) }];
  });
}

function createPlace({ iface, direction }: TcHook, ifindex: number): Place {
  const result = libbpf().bpf_tc_hook_create(tcHook(bothSidesOf(ifindex)));
  if (result === -ENODEV) throw interfaceNotFound(iface);
  if (result === -EEXIST) {
    const message =
      `${iface} has an ingress qdisc, which takes the place of clsact, and no htb at its root: ` +
      'there is nowhere to attach at egress; replace ingress by clsact, which takes the same filters';
    throw new AgentError('ATTACH_FAILED', message);
  }
  if (result !== 0) throw kernelError(`Cannot create a clsact qdisc on ${iface}`, result, 'ATTACH_FAILED');
  created.add(ifindex);
  return { ifindex, attachPoint: ATTACH_POINT[direction], parent: 0 };
}

function occupied(hook: Hook, id: number): AgentError {
  using holder = tryOpenId('prog', id);
  const name = holder === undefined ? 'gone by now' : programInfo(holder.number).name;
  const message = `The TC filter 0x${HANDLE.toString(16)} at ${hookKey(hook)} is program ${id} (${name}), which is not ours`;
  return kernelError(message, EEXIST, 'HOOK_OCCUPIED');
}

function bothSidesOf(ifindex: number): Place {
  return { ifindex, attachPoint: ATTACH_POINT.ingress | ATTACH_POINT.egress, parent: 0 };
}

function isSame(a: Place, b: Place): boolean {
  return a.attachPoint === b.attachPoint && a.parent === b.parent;
}

/** `struct bpf_tc_hook`. */
function tcHook({ ifindex, attachPoint, parent }: Place): Buffer {
  const hook = Buffer.alloc(24);
  hook.writeBigUInt64LE(24n, 0);
  hook.writeInt32LE(ifindex, 8);
  hook.writeInt32LE(attachPoint, 12);
  hook.writeUInt32LE(parent, 16);
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
