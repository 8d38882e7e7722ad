import type { ForeignProgram } from '../../../domain/foreign.js';
import type { ChainHook } from '../../../domain/hook.js';
import type { Attachment } from '../../../domain/observed.js';
import type { LinkPosition } from '../../../steps/step.js';
import type { LinkRef, XdpMode } from '../../datapath.js';
import type { Fd } from '../abi/fd.js';
import type { LinkInfo } from '../abi/info.js';
import type { Devices } from './devices.js';

/** How TC attaches: by TCX link (Linux 6.6), by clsact filter, or by TCX if the kernel supports it. */
export type TcMode = 'auto' | 'tcx' | 'clsact';

export interface AttachOptions {
  readonly bpffs: string;
  readonly xdp: XdpMode;
  readonly tc: TcMode;
  /** Interface indexes whose clsact qdisc this datapath has created. */
  readonly createdQdiscs: Set<number>;
}

/**
 * The kernel's side of the attach points of one kind. The side of the rest of the agent is in `domain/attach-points/`.
 */
export interface AttachDriver {
  /**
   * `enum bpf_prog_type` and `enum bpf_attach_type` with which all programs of a chain are loaded. Programs that share
   * a PROG_ARRAY must agree in both (bpf_prog_map_compatible in kernel/bpf/core.c), so they are fixed here and do not
   * depend on the section names of packages.
   */
  readonly program: { readonly type: number; readonly expectedAttachType: number };

  /** `enum bpf_link_type` of its links. */
  readonly linkType: number;

  /** See `Datapath.attach`. */
  attach(
    program: Fd,
    hook: ChainHook,
    linkPin: string,
    place: LinkPosition | null,
    options: AttachOptions,
    tell: (note: string) => void,
  ): void;

  /** See `Datapath.retarget`. */
  retarget(program: Fd, hook: ChainHook, from: LinkRef, to: LinkRef, options: AttachOptions): void;

  /** See `Datapath.detach`. */
  detach(hook: ChainHook, linkPin: string, options: AttachOptions): void;

  /**
   * The `targetId` that a link of this hook must have; undefined if the interface or control group does not exist.
   *
   * @param interfaces of the host: name to index
   */
  targetId(hook: ChainHook, interfaces: ReadonlyMap<string, number>): number | undefined;

  /** The state of a link that is pinned for a hook, as the link says. */
  attachmentOf(
    link: LinkInfo,
    targetId: number | undefined,
    devices: Devices,
  ): Pick<Attachment, 'kind' | 'attached' | 'mode'>;

  /** Ids of the programs that the kernel runs at a hook, ours and foreign ones, in order. */
  programsAt(hook: ChainHook, targetId: number, devices: Devices): readonly number[];

  /** Throws HOOK_OCCUPIED if a foreign program holds the hook; absent where several have room. */
  readonly checkFree?: (hook: ChainHook, targetId: number, options: AttachOptions) => void;

  /**
   * What else is at a hook where a verdict ends the way of a packet, in order; absent where every program sees every
   * packet, or where there is only one.
   *
   * @param own ids of our programs that are attached there
   */
  readonly foreignAt?: (targetId: number, own: ReadonlySet<number>, devices: Devices) => readonly ForeignProgram[];

  /** Id of our program that is attached by other means than a link; absent if there are no such means. */
  readonly unlinked?: (targetId: number) => number | undefined;

  /** See `Datapath.ordered`. */
  isOrdered(options: AttachOptions): boolean;

  /** Features that `l3af-agent check` reports, tried out on an interface that exists only for this. */
  readonly features: readonly { readonly name: string; readonly tryOut: (iface: string) => string | undefined }[];
}
