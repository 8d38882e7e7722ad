import type { ForeignProgram } from '../../../domain/foreign.js';
import { type ChainHook, hookKey, targetName } from '../../../domain/hook.js';
import { AgentError } from '../../../errors.js';
import { check, EEXIST, EINVAL, ENODEV, ENOENT, kernelError } from '../abi/errno.js';
import { type Fd, tryOpenId } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { programInfo } from '../abi/info.js';
import { interfaceNotFound } from '../abi/interfaces.js';
import { TC_HOOK, TC_OPTS } from '../abi/structs.js';
import { clsactFilters, clsactHasFilters, qdiscsOf, TC_H_CLSACT, TC_H_ROOT } from './qdiscs.js';

/*
 * TC on kernels without TCX: a filter at a qdisc. Our filter has a handle and a priority that others are unlikely to
 * use ("L3" in ASCII). Even so, a foreign program there is left alone.
 *
 * The filter is at the clsact qdisc, which is created if it is missing. If an `ingress` qdisc takes the place of
 * clsact, ingress filters are put there, and egress filters at the root qdisc, if that is `htb`. l3afd does the same on
 * such hosts. A foreign qdisc is never replaced. A clsact qdisc is removed again only if this run of the agent created
 * it and it has no filter: an empty one costs nothing, but removing one removes all its filters, foreign ones too.
 */

const HANDLE = 0x4c33;
const PRIORITY = 0x4c33;

/** `enum bpf_tc_attach_point`. */
const ATTACH_POINT = { ingress: 1, egress: 2 } as const;
const BPF_TC_CUSTOM = 4;
const BPF_TC_F_REPLACE = 1;

export type TcDirection = keyof typeof ATTACH_POINT;

/** Where the filters of one direction are. */
interface FilterPlace {
  readonly ifindex: number;
  readonly attachPoint: number;
  /** Handle of the qdisc, for BPF_TC_CUSTOM. */
  readonly parent: number;
}

/** What is ours at an interface. */
export interface Ownership {
  /** Whether the program with this id is ours. */
  isOurs(programId: number): boolean;
  /** Interface indexes whose clsact qdisc this datapath has created since its start. */
  readonly createdQdiscs: Set<number>;
}

/** Id of the program in our filter; undefined if there is no such filter. */
export function filteringProgram(ifindex: number, direction: TcDirection): number | undefined {
  return filtersOf(ifindex, direction)[0]?.programId;
}

/** The filters at a clsact qdisc that are not ours, before or behind our filter; all behind if we have none. */
export function foreignFilters(ifindex: number, direction: TcDirection, own: ReadonlySet<number>): ForeignProgram[] {
  const filters = clsactFilters(ifindex, direction);
  const ours = filters.findIndex(({ programId }) => own.has(programId));
  return filters
    .map(({ kind, programId }, index): ForeignProgram => {
      using program = programId === 0 ? undefined : tryOpenId('prog', programId);
      const name = program === undefined ? kind : programInfo(program.number).name;
      return { id: programId, name, runs: index < ours ? 'before' : 'behind' };
    })
    .filter(({ id }) => !own.has(id));
}

/** Attaches by a filter, or puts the program into our filter if there is one. */
export function attachFilter(
  program: Fd,
  hook: ChainHook,
  direction: TcDirection,
  ifindex: number,
  own: Ownership,
): void {
  const { id } = programInfo(program.number);
  const standing = filtersOf(ifindex, direction);
  const ours = standing.find(({ programId }) => own.isOurs(programId));
  if (ours?.programId === id) return;
  const place = ours?.place ?? placesOf(ifindex, direction)[0] ?? createPlace(hook, direction, ifindex, own);
  const stranger = ours === undefined ? standing.find((filter) => isSame(filter.place, place)) : undefined;
  if (stranger !== undefined) throw occupied(hook, stranger.programId);
  const opts = tcOpts({ program, flags: ours === undefined ? 0 : BPF_TC_F_REPLACE });
  const result = libbpf().bpf_tc_attach(tcHook(place), opts);
  if (result < 0) throw kernelError(`The kernel refused a TC filter at ${hookKey(hook)}`, result, 'ATTACH_FAILED');
}

/** Removes our filter; a foreign program there is left alone. */
export function detachFilter(
  hook: ChainHook,
  direction: TcDirection,
  ifindex: number,
  { isOurs, createdQdiscs }: Ownership,
): void {
  const ours = filtersOf(ifindex, direction).filter(({ programId }) => isOurs(programId));
  for (const { place } of ours) {
    const result = libbpf().bpf_tc_detach(tcHook(place), tcOpts());
    if (result !== -ENOENT && result !== -ENODEV) check(result, `Cannot remove our TC filter from ${targetName(hook)}`);
  }
  if (ours.length === 0 || !createdQdiscs.has(ifindex) || clsactHasFilters(ifindex)) return;
  createdQdiscs.delete(ifindex);
  libbpf().bpf_tc_hook_destroy(tcHook(bothSidesOf(ifindex)));
}

/** The possible places for filters of a direction, best first. */
function placesOf(ifindex: number, direction: TcDirection): FilterPlace[] {
  const qdiscs = qdiscsOf(ifindex);
  const inner = qdiscs.find(({ parent }) => parent === TC_H_CLSACT)?.kind;
  const root = qdiscs.find(({ parent }) => parent === TC_H_ROOT);
  // An ingress qdisc accepts filters for clsact's egress too, but runs them on incoming packets (ingress_tcf_block in
  // net/sched/sch_ingress.c).
  const atClsact = inner === 'clsact' || (inner === 'ingress' && direction === 'ingress');
  const atRoot = direction === 'egress' && root?.kind === 'htb';
  return [
    ...(atClsact ? [{ ifindex, attachPoint: ATTACH_POINT[direction], parent: 0 }] : []),
    ...(atRoot ? [{ ifindex, attachPoint: BPF_TC_CUSTOM, parent: root.handle }] : []),
  ];
}

/**
 * Filters with our handle and priority in all places: qdiscs may have been added or removed since our filter was
 * created.
 */
function filtersOf(ifindex: number, direction: TcDirection): { place: FilterPlace; programId: number }[] {
  return placesOf(ifindex, direction).flatMap((place) => {
    const opts = tcOpts();
    const result = libbpf().bpf_tc_query(tcHook(place), opts);
    // EINVAL: a qdisc without any filter yet (tc_get_tfilter in net/sched/cls_api.c).
    if (result === -ENOENT || result === -EINVAL || result === -ENODEV) return [];
    check(result, 'Cannot search for our TC filter');
    return [{ place, programId: TC_OPTS.read(opts, 'prog_id') }];
  });
}

function createPlace(
  hook: ChainHook,
  direction: TcDirection,
  ifindex: number,
  { createdQdiscs }: Ownership,
): FilterPlace {
  const result = libbpf().bpf_tc_hook_create(tcHook(bothSidesOf(ifindex)));
  if (result === -ENODEV) throw interfaceNotFound(targetName(hook));
  if (result === -EEXIST) {
    const message =
      `${targetName(hook)} has an ingress qdisc, which takes the place of clsact, and no htb qdisc at its root: ` +
      'egress has no attach point; replace the ingress qdisc by clsact, which accepts the same filters';
    throw new AgentError('ATTACH_FAILED', message);
  }
  if (result !== 0) throw kernelError(`Cannot create a clsact qdisc on ${targetName(hook)}`, result, 'ATTACH_FAILED');
  createdQdiscs.add(ifindex);
  return { ifindex, attachPoint: ATTACH_POINT[direction], parent: 0 };
}

function occupied(hook: ChainHook, id: number): AgentError {
  using holder = tryOpenId('prog', id);
  const name = holder === undefined ? 'already gone' : programInfo(holder.number).name;
  const message = `The TC filter 0x${HANDLE.toString(16)} at ${hookKey(hook)} is program ${id} (${name}), which is not ours`;
  return kernelError(message, EEXIST, 'HOOK_OCCUPIED');
}

function bothSidesOf(ifindex: number): FilterPlace {
  return { ifindex, attachPoint: ATTACH_POINT.ingress | ATTACH_POINT.egress, parent: 0 };
}

function isSame(a: FilterPlace, b: FilterPlace): boolean {
  return a.attachPoint === b.attachPoint && a.parent === b.parent;
}

function tcHook({ ifindex, attachPoint, parent }: FilterPlace): Buffer {
  return TC_HOOK.make({ sz: TC_HOOK.size, ifindex, attach_point: attachPoint, parent });
}

function tcOpts(attach?: { program: Fd; flags: number }): Buffer {
  const { program, flags = 0 } = attach ?? {};
  const prog_fd = program?.number ?? 0;
  return TC_OPTS.make({ sz: TC_OPTS.size, prog_fd, flags, handle: HANDLE, priority: PRIORITY });
}
