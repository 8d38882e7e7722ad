import { tmpdir } from 'node:os';
import koffi from 'koffi';
import { type Holders, holdersOf } from '../../src/datapath/libbpf/diagnostics/holders.js';
import { isOfThisRun, isRunFolder } from './this-run.js';

/*
 * Which programs, maps and links the kernel has, on the whole host, found without opening any of them.
 *
 * `bpftool map show` opens every map by its id, and so does `bpftool prog show` with the maps of every program (it
 * searches them for metadata). Suppose a PROG_ARRAY loses its last user, and is opened and closed again before the
 * kernel has emptied it. Then the kernel takes a second reference for a second emptying that never happens, and the map
 * stays forever: prog_array_map_clear in kernel/bpf/arraymap.c does not check whether schedule_work has queued
 * anything. Asking for the next id takes no reference.
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

/**
 * The ids of the list that the kernel still has and that are held, in order. Left out are objects that other processes
 * of the machine have open, even for a moment, and maps without a holder: no descriptor, no pin and no program. The
 * kernel is about to free such a map, or keeps it forever, as explained above.
 */
export function existing(kind: Kind, ids: Iterable<number>): number[] {
  const wanted = [...ids];
  const inKernel = () => {
    const all = new Set(idsInKernel(kind));
    return wanted.filter((id) => all.has(id));
  };
  const found = inKernel();
  if (found.length === 0) return found;
  const holders = holdersOf(found.map((id) => ({ kind, id })));
  const still = new Set(inKernel());
  return found.filter((id) => still.has(id) && isOurs(kind, id, holders));
}

/**
 * Whether a kernel object belongs to this run of tests, judged by its holders: a process of the run, a pin in the run's
 * folder, or a link or program that belongs to the run.
 *
 * @param holders of this object and others; an object without an entry is unknown and counts as ours
 */
export function isOurs(kind: Kind, id: number, holders: Holders, folder = tmpdir()): boolean {
  const by = holders.get(`${kind} ${id}`);
  if (by === undefined) return true;
  if (by.length === 0) return kind !== 'map';
  return by.some((holder) => {
    const [, what, number] = /^(process|program|link) ([0-9]+)/.exec(holder) ?? [];
    if (what === 'process') return isOfThisRun(Number(number), folder);
    if (what !== undefined) return isOurs(what === 'link' ? 'link' : 'prog', Number(number), holders, folder);
    const pin = holder.slice(holder.indexOf('/'));
    return !isRunFolder(folder) || pin.startsWith(`${folder}/`);
  });
}
