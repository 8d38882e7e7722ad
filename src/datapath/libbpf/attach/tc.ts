import { type ChainHook, hookKey, targetName } from '../../../domain/hook.js';
import type { AgentError } from '../../../errors.js';
import { check, EEXIST, EINVAL, ENODEV, ERANGE, kernelError } from '../abi/errno.js';
import { Fd, tryOpenPin } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { interfaceIndex, interfaceNotFound, interfaces } from '../abi/interfaces.js';
import { loadMinimalProgram } from '../diagnostics/minimal-program.js';
import { ownProgramIds } from '../pins/loads.js';
import {
  attachFilter,
  detachFilter,
  filteringProgram,
  foreignFilters,
  type Ownership,
  type TcDirection,
} from './clsact.js';
import type { AttachDriver, AttachOptions, TcMode } from './driver.js';
import { attachLink, createInsteadOfStrays, removeLink, retargetLink } from './link.js';
import { createOrderedLink, foreignIn, orderedPrograms, tryCount } from './mprog.js';

/** BPF_TCX_INGRESS and BPF_TCX_EGRESS of `enum bpf_attach_type`. */
export const TCX_ATTACH_TYPE = { ingress: 46, egress: 47 } as const satisfies Record<TcDirection, number>;

/** Of `enum bpf_link_type`. */
const BPF_LINK_TYPE_TCX = 11;

/**
 * One direction of TC: by TCX links if the kernel supports them and the mode allows it, or by a filter of a clsact
 * qdisc.
 */
export function tcDriver(direction: TcDirection): AttachDriver {
  return {
    // BPF_PROG_TYPE_SCHED_CLS.
    program: { type: 3, expectedAttachType: 0 },
    linkType: BPF_LINK_TYPE_TCX,

    attach(program, hook, linkPin, place, options) {
      const ifindex = interfaceIndex(targetName(hook));
      // The mode may have been another when the chain was attached, and this may be a rollback to it. A neighbour means
      // TCX, a missing link pin means a filter.
      if (place === null && (linkPin === '' || byFilter(ifindex, options.tc))) {
        attachFilter(program, hook, direction, ifindex, ownership(options));
        return;
      }
      attachLink(program, {
        linkPin,
        bpffs: options.bpffs,
        targetId: ifindex,
        programsAt: () => orderedPrograms(ifindex, TCX_ATTACH_TYPE[direction]),
        create: () =>
          createInsteadOfStrays(
            () =>
              createOrderedLink(program, ifindex, TCX_ATTACH_TYPE[direction], place, (errno) => refused(hook, errno)),
            { hook, linkType: BPF_LINK_TYPE_TCX, targetId: ifindex, bpffs: options.bpffs },
          ),
      });
    },

    retarget(program, hook, from, to, options) {
      const ifindex = interfaceIndex(targetName(hook));
      // A filter has no link, so no link is pinned at `from.link`.
      if (!isPinned(from.link) && filteringProgram(ifindex, direction) !== undefined) {
        attachFilter(program, hook, direction, ifindex, ownership(options));
      } else {
        retargetLink(from.link, program, to.link, options.bpffs);
      }
    },

    /** A hook has either a link, which is pinned, or a filter. */
    detach(hook, linkPin, options) {
      if (linkPin !== '' && removeLink(linkPin, options.bpffs)) return;
      const ifindex = interfaces().get(targetName(hook));
      if (ifindex !== undefined) detachFilter(hook, direction, ifindex, ownership(options));
    },

    targetId: (hook, present) => present.get(targetName(hook)),

    attachmentOf: ({ targetId: at }, targetId) => ({ kind: 'tcx', attached: at !== 0 && at === targetId }),

    programsAt: (_hook, ifindex) => orderedPrograms(ifindex, TCX_ATTACH_TYPE[direction]),

    // Packets pass TCX programs first, then filters (sch_handle_ingress in net/core/dev.c).
    foreignAt: (ifindex, own, devices) => [
      ...foreignIn(knowsTcx(ifindex) ? orderedPrograms(ifindex, TCX_ATTACH_TYPE[direction]) : [], own),
      ...(devices.mayHaveFilters(ifindex) ? foreignFilters(ifindex, direction, own) : []),
    ],

    unlinked: (ifindex) => filteringProgram(ifindex, direction),

    isOrdered({ tc }) {
      const [anyInterface] = interfaces().values();
      return anyInterface !== undefined && !byFilter(anyInterface, tc);
    },

    features:
      direction === 'ingress'
        ? [
            { name: 'TCX link', tryOut: tryLink },
            { name: 'clsact filter', tryOut: tryFilter },
          ]
        : [],
  };
}

function refused(hook: ChainHook, errno: number): AgentError {
  if (errno === -ENODEV) return interfaceNotFound(targetName(hook));
  const at = hookKey(hook);
  if (errno === -EEXIST)
    return kernelError(`The program is already attached to ${at} by another link`, errno, 'HOOK_OCCUPIED');
  const why = errno === -ERANGE ? ': the hook has as many TCX programs as the kernel allows' : '';
  return kernelError(`The kernel refused to attach to ${at}${why}`, errno, 'ATTACH_FAILED');
}

/** Whether the kernel supports TCX (from Linux 6.6 on): then it lists an interface's TCX programs. */
function knowsTcx(ifindex: number): boolean {
  return tryCount(ifindex, TCX_ATTACH_TYPE.ingress) !== -EINVAL;
}

function byFilter(ifindex: number, mode: TcMode): boolean {
  return mode === 'clsact' || (mode === 'auto' && !knowsTcx(ifindex));
}

function isPinned(path: string): boolean {
  if (path === '') return false;
  using pinned = tryOpenPin('link', path);
  return pinned !== undefined;
}

/** Needed seldom, so it is read each time: ours is what is pinned as ours. */
function ownership({ bpffs, createdQdiscs }: AttachOptions): Ownership {
  return { isOurs: (programId) => ownProgramIds(bpffs).has(programId), createdQdiscs };
}

function tryLink(iface: string): string {
  using program = loadMinimalProgram('tc');
  const link = libbpf().bpf_link_create(program.number, interfaceIndex(iface), TCX_ATTACH_TYPE.ingress, null);
  using _link = new Fd(check(link, 'the kernel refuses the link'));
  return 'chains come before the clsact filters of others, which get only what a chain passes on with TC_ACT_UNSPEC, or ends with TC_ACT_STOLEN or TC_ACT_TRAP (accepted where there are no filters); tc_mode: clsact keeps order and verdicts';
}

function tryFilter(iface: string): undefined {
  using program = loadMinimalProgram('tc');
  const hook = { iface, direction: 'ingress' } as const;
  const nothing = { isOurs: () => false, createdQdiscs: new Set<number>() };
  attachFilter(program, hook, hook.direction, interfaceIndex(iface), nothing);
}
