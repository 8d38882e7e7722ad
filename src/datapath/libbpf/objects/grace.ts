import { check } from '../abi/errno.js';
import { Fd } from '../abi/fd.js';
import { inBackground, libbpf, libc } from '../abi/ffi.js';
import { MAP_CREATE_OPTS } from '../abi/structs.js';

/** Number of membarrier(2) (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h). */
const MEMBARRIER: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 324, arm64: 283 };
const MEMBARRIER_CMD_GLOBAL = 1n;

const BPF_MAP_TYPE_ARRAY = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS = 12;

/**
 * Resolves when no CPU can still be inside a program that was unlinked before the call. Programs run inside RCU
 * read-side critical sections, and MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel/sched/membarrier.c). Usually
 * takes 15 ms, and 100 ms or more under load: there is no time to configure.
 */
export async function grace(): Promise<void> {
  const number = MEMBARRIER[process.arch];
  const result =
    number === undefined ? -1 : await inBackground(libc().syscall, number, MEMBARRIER_CMD_GLOBAL, 0n, 0n, 0n, 0n);
  // Kernels booted with nohz_full refuse it with EINVAL.
  if (result < 0) await graceByMapInMap();
}

/** The same without leaving the event loop free, for the middle of a change. */
export function graceAtOnce(): void {
  const number = MEMBARRIER[process.arch];
  const result = number === undefined ? -1 : libc().syscall(number, MEMBARRIER_CMD_GLOBAL, 0n, 0n, 0n, 0n);
  if (result >= 0) return;
  using maps = outerMap();
  check(libbpf().bpf_map_update_elem(maps.outer, Buffer.alloc(4), maps.value, 0), NOT_WAITED);
}

/**
 * The same in another way: an update of a map of maps returns only after all running programs have ended, so that none
 * still uses the old inner map (maybe_wait_bpf_programs in kernel/bpf/syscall.c).
 */
export async function graceByMapInMap(): Promise<void> {
  using maps = outerMap();
  check(await inBackground(libbpf().bpf_map_update_elem, maps.outer, Buffer.alloc(4), maps.value, 0), NOT_WAITED);
}

const NOT_WAITED = 'Cannot wait until the running programs have ended';

/** A map of maps, and the value to write into it. */
function outerMap(): Disposable & { readonly outer: number; readonly value: Buffer } {
  const bpf = libbpf();
  const inner = new Fd(check(bpf.bpf_map_create(BPF_MAP_TYPE_ARRAY, 'l3af_inner', 4, 4, 1, null), 'Cannot make a map'));
  const opts = MAP_CREATE_OPTS.make({ sz: MAP_CREATE_OPTS.size, inner_map_fd: inner.number });
  const fd = bpf.bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, 'l3af_grace', 4, 4, 1, opts);
  if (fd < 0) inner[Symbol.dispose]();
  const outer = new Fd(check(fd, 'Cannot make a map of maps'));
  const value = Buffer.alloc(4);
  value.writeInt32LE(inner.number);
  return {
    outer: outer.number,
    value,
    [Symbol.dispose]: () => {
      outer[Symbol.dispose]();
      inner[Symbol.dispose]();
    },
  };
}
