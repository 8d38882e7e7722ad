import { hookKey, targetName } from '../../../domain/hook.js';
import { check } from '../abi/errno.js';
import { Fd } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { interfaceIndex } from '../abi/interfaces.js';
import { loadMinimalProgram } from '../diagnostics/minimal-program.js';
import type { AttachDriver } from './driver.js';
import { attachLink, BY_LINK } from './link.js';
import { BPF_LINK_TYPE_XDP, BPF_XDP, checkNoForeign, createXdpLink } from './xdp-link.js';
import { xdpPrograms } from './xdp-query.js';

/** XDP: one program for each interface. */
export const xdpDriver: AttachDriver = {
  // BPF_PROG_TYPE_XDP.
  program: { type: 6, expectedAttachType: BPF_XDP },
  linkType: BPF_LINK_TYPE_XDP,

  attach(program, hook, linkPin, _place, { xdp, bpffs }, tell) {
    const ifindex = interfaceIndex(targetName(hook));
    let isNew = false;
    let refusal = 'its driver has no XDP';
    const onRefused = (words: string) => {
      refusal = `its driver refuses the program (${words})`;
    };
    const onLifted = (interfaces: readonly string[]) => {
      const above = interfaces.join(', ');
      tell(
        `${hookKey(hook)} is below ${above}, whose program was taken off and put back: packets passed ${above} without it for a moment`,
      );
    };
    attachLink(program, {
      linkPin,
      bpffs,
      targetId: ifindex,
      programsAt: () => [...xdpPrograms(ifindex).values()],
      create: () => {
        isNew = true;
        return createXdpLink(program, { hook, ifindex, mode: xdp, linkPin, bpffs, onRefused, onLifted });
      },
    });
    if (isNew && xdp === 'auto' && xdpPrograms(ifindex).has('generic'))
      tell(`${hookKey(hook)} runs in the network stack (generic), which is slower than in the driver: ${refusal}`);
  },

  ...BY_LINK,

  targetId: (hook, interfaces) => interfaces.get(targetName(hook)),

  attachmentOf({ programId, targetId: at }, targetId, devices) {
    const attached = at !== 0 && at === targetId;
    const [mode] = [...devices.xdpPrograms(at)].find(([, id]) => id === programId) ?? [];
    return { kind: 'xdp', attached, ...(attached && mode !== undefined && { mode }) };
  },

  programsAt: (_hook, ifindex, devices) => [...devices.xdpPrograms(ifindex).values()],

  checkFree: (hook, ifindex, { bpffs }) => checkNoForeign(hook, ifindex, bpffs),

  isOrdered: () => false,

  features: [{ name: 'XDP link', tryOut: tryLink }],
};

function tryLink(iface: string): undefined {
  using program = loadMinimalProgram('xdp');
  const link = libbpf().bpf_link_create(program.number, interfaceIndex(iface), BPF_XDP, null);
  using _link = new Fd(check(link, 'the kernel refuses the link'));
}
