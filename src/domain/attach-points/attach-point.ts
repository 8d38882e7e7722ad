/**
 * A kind of place in the kernel where chains are attached, as planning, payloads and paths see it. The kernel side is
 * in `datapath/libbpf/attach/`, under the same name.
 */
export interface AttachPoint {
  /** What a hook of this kind belongs to: a network interface by its name, or a control group by its path. */
  readonly target: 'interface' | 'cgroup';
  /** The list in a payload's `bpf_programs` that contains its programs. */
  readonly payloadList: string;
  /** `prog_type` of a payload. Programs of one type can call each other by tail calls. */
  readonly programType: string;
  /** Names of sections by which an object says that a program is meant for it; objects need not say so. */
  readonly sections: RegExp;
  /** A description of the programs that its chains can contain. */
  readonly programs: string;
  /**
   * Whether the kernel runs several programs at one hook in an order that can be chosen: `always`, `never`, or only on
   * some hosts, which the datapath detects. With such an order, a program without slot can have a successor.
   */
  readonly order: 'always' | 'never' | 'detected';
  /** Why a host has no such order, as the end of a sentence; only for `detected`. */
  readonly lacksOrder?: string;
  /** Possible kinds of attachments. The first one is the kind of its links. */
  readonly attachments: readonly [string, ...string[]];
  /** Folder below bpffs with the public names of its maps, by target, program and version; '' for bpffs itself. */
  readonly mapFolder: string;
  /**
   * The program that only jumps into the chain. Functions and maps are those of l3afd's own root packages where it has
   * one.
   */
  readonly root: {
    readonly name: string;
    /** Name of the object file below `native/build`, without extension. */
    readonly object: string;
    readonly entryFunction: string;
    readonly slotMap: string;
  };
  /** The list in a snapshot that contains its chains, by target. */
  readonly snapshotList: string;
}
