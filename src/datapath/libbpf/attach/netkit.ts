import { type ChainHook, hookKey, targetName } from '../../../domain/hook.js';
import type { AgentError } from '../../../errors.js';
import { EACCES, EEXIST, EINVAL, ENODEV, ENXIO, ERANGE, kernelError } from '../abi/errno.js';
import { interfaceIndex, interfaceNotFound } from '../abi/interfaces.js';
import type { AttachDriver } from './driver.js';
import { attachLink, BY_LINK, createInsteadOfStrays } from './link.js';
import { createOrderedLink, foreignIn, orderedPrograms, tryCount } from './mprog.js';

/** BPF_NETKIT_PRIMARY and BPF_NETKIT_PEER of `enum bpf_attach_type`. */
export const NETKIT_ATTACH_TYPE = { primary: 54, peer: 55 } as const;

/** Of `enum bpf_link_type`. */
const BPF_LINK_TYPE_NETKIT = 13;

/** One side of a netkit pair. Both sides are addressed by the primary device (drivers/net/netkit.c). */
export function netkitDriver(side: keyof typeof NETKIT_ATTACH_TYPE): AttachDriver {
  const attachType = NETKIT_ATTACH_TYPE[side];
  return {
    // BPF_PROG_TYPE_SCHED_CLS.
    program: { type: 3, expectedAttachType: 0 },
    linkType: BPF_LINK_TYPE_NETKIT,

    attach(program, hook, linkPin, place, { bpffs }) {
      const ifindex = interfaceIndex(targetName(hook));
      attachLink(program, {
        linkPin,
        bpffs,
        targetId: ifindex,
        programsAt: () => orderedPrograms(ifindex, attachType),
        create: () =>
          createInsteadOfStrays(
            () => createOrderedLink(program, ifindex, attachType, place, (errno) => refused(hook, errno)),
            { hook, linkType: BPF_LINK_TYPE_NETKIT, targetId: ifindex, bpffs },
          ),
      });
    },

    ...BY_LINK,

    targetId: (hook, interfaces) => interfaces.get(targetName(hook)),

    attachmentOf: ({ targetId: at }, targetId) => ({ kind: 'netkit', attached: at !== 0 && at === targetId }),

    programsAt: (_hook, ifindex) => orderedPrograms(ifindex, attachType),

    foreignAt: (ifindex, own) => foreignIn(orderedPrograms(ifindex, attachType), own),

    isOrdered: () => true,

    features: side === 'primary' ? [{ name: 'netkit', tryOut: tryNetkit }] : [],
  };
}

function refused(hook: ChainHook, errno: number): AgentError {
  const iface = targetName(hook);
  if (errno === -ENODEV) return interfaceNotFound(iface);
  const at = hookKey(hook);
  if (errno === -EEXIST)
    return kernelError(`The program is already attached to ${at} by another link`, errno, 'HOOK_OCCUPIED');
  const why: Readonly<Record<number, string>> = {
    [-EINVAL]: ': it does not support netkit devices (CONFIG_NETKIT, from Linux 6.7 on)',
    [-ENXIO]: `: ${iface} is not a netkit device`,
    [-EACCES]: `: ${iface} is the peer of a netkit pair; name the primary device, which has both hooks`,
    [-ERANGE]: ': the hook has as many programs as the kernel allows',
  };
  return kernelError(`The kernel refused to attach to ${at}${why[errno] ?? ''}`, errno, 'ATTACH_FAILED');
}

/** No netkit pair is needed: a kernel with netkit refuses other devices with another error. */
function tryNetkit(iface: string): undefined {
  const result = tryCount(interfaceIndex(iface), NETKIT_ATTACH_TYPE.primary);
  if (result === -EINVAL)
    throw new Error('the kernel does not support netkit devices (CONFIG_NETKIT, from Linux 6.7 on)');
}
