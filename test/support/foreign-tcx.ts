import { closeSync } from 'node:fs';
import koffi from 'koffi';

/*
 * TCX links that are not the agent's, and the order of all programs at a hook. bpftool supports TCX only from version
 * 7.4 on, which is not available everywhere.
 */

/** BPF_TCX_INGRESS and BPF_TCX_EGRESS of `enum bpf_attach_type`. */
const ATTACH_TYPE = { ingress: 46, egress: 47 } as const;
const MOST_PROGRAMS = 64;

export type TcDirection = keyof typeof ATTACH_TYPE;

/** Bound on first use: machines without libbpf import this file too. */
function bind() {
  const libbpf = koffi.load('libbpf.so.1');
  const libc = koffi.load(null);
  return {
    indexOf: libc.func('uint32_t if_nametoindex(const char *name)') as (name: string) => number,
    open: libbpf.func('int bpf_obj_get(const char *path)') as (path: string) => number,
    link: libbpf.func('int bpf_link_create(int prog, int target, int type, const void *opts)') as (
      ...args: [number, number, number, null]
    ) => number,
    query: libbpf.func('int bpf_prog_query(int target, int type, uint32_t flags, void *f, void *ids, void *count)') as (
      ...args: [number, number, number, null, Buffer, Buffer]
    ) => number,
  };
}

let bound: ReturnType<typeof bind> | undefined;
const functions = () => {
  bound ??= bind();
  return bound;
};

/** Attaches a pinned program behind everything. @returns a function that detaches it */
export function attachForeign(programPin: string, iface: string, direction: TcDirection): () => void {
  const { indexOf, open, link } = functions();
  const program = checked(open(programPin), programPin);
  try {
    const fd = checked(link(program, indexOf(iface), ATTACH_TYPE[direction], null), `link at ${iface}`);
    return () => closeSync(fd);
  } finally {
    closeSync(program);
  }
}

/** Ids of all programs at a hook, in the order in which packets pass them. */
export function tcxOrder(iface: string, direction: TcDirection): number[] {
  const { indexOf, query } = functions();
  const [ids, count] = [Buffer.alloc(4 * MOST_PROGRAMS), Buffer.alloc(4)];
  count.writeUInt32LE(MOST_PROGRAMS);
  checked(query(indexOf(iface), ATTACH_TYPE[direction], 0, null, ids, count), `programs at ${iface}`);
  return Array.from({ length: count.readUInt32LE() }, (_, index) => ids.readUInt32LE(4 * index));
}

function checked(result: number, what: string): number {
  if (result < 0) throw new Error(`${what}: errno ${-result}`);
  return result;
}
