import koffi from 'koffi';

/*
 * Which programs, maps and links the kernel has, on the whole host, found without opening any of them.
 *
 * `bpftool map show` opens every map by its id, and so does `bpftool prog show` with the maps of every program (it looks for
 * metadata in them). When a PROG_ARRAY loses its last user and is opened and closed before the kernel has come round to emptying
 * it, the kernel takes a second reference for a second emptying that it never does, and the map stays for good:
 * prog_array_map_clear in kernel/bpf/arraymap.c does not look whether schedule_work has queued anything. Asking for the next id
 * takes no reference.
 */

export type Kind = 'prog' | 'map' | 'link';

type NextId = (start: number, next: [number]) => number;

let bound: Readonly<Record<Kind, NextId>> | undefined;

/** Bound on first use: machines without libbpf import this file too. */
function nextId(): Readonly<Record<Kind, NextId>> {
  if (bound !== undefined) return bound;
  const library = koffi.load('libbpf.so.1');
  bound = {
    prog: library.func('int bpf_prog_get_next_id(uint32_t start, _Out_ uint32_t *next)'),
    map: library.func('int bpf_map_get_next_id(uint32_t start, _Out_ uint32_t *next)'),
    link: library.func('int bpf_link_get_next_id(uint32_t start, _Out_ uint32_t *next)'),
  };
  return bound;
}

/** All ids of a kind, ascending. */
export function idsInKernel(kind: Kind): number[] {
  const ids: number[] = [];
  const next: [number] = [0];
  while (nextId()[kind](ids.at(-1) ?? 0, next) === 0) ids.push(next[0]);
  return ids;
}

/** Those of the ids that the kernel still has, in their order. */
export function existing(kind: Kind, ids: Iterable<number>): number[] {
  const all = new Set(idsInKernel(kind));
  return [...ids].filter((id) => all.has(id));
}
