import { tryOpenId } from './fd.js';
import { libbpf } from './ffi.js';
import { mapIdsOf } from './info.js';

/*
 * Finds objects by their ids without opening them. If a PROG_ARRAY is opened by id just when its last user disappears,
 * the kernel keeps it forever (explained in test/support/kernel-ids.ts). Asking for the next id takes no reference.
 */

export type IdKind = 'prog' | 'map' | 'link';

/** Whether the kernel has an object with that id. */
export function exists(kind: IdKind, id: number): boolean {
  return nextId(kind, id - 1) === id;
}

/** All ids of a kind, ascending. */
export function* idsOf(kind: IdKind): Generator<number> {
  for (let id = nextId(kind, 0); id !== undefined; id = nextId(kind, id)) yield id;
}

/** All programs of the host that use one of these maps. */
export function usersOf(
  mapIds: ReadonlySet<number>,
): { readonly programId: number; readonly mapIds: readonly number[] }[] {
  return [...idsOf('prog')].flatMap((programId) => {
    using program = tryOpenId('prog', programId);
    const used = program === undefined ? [] : [...mapIdsOf(program.number)].filter((id) => mapIds.has(id));
    return used.length === 0 ? [] : [{ programId, mapIds: used }];
  });
}

function nextId(kind: IdKind, id: number): number | undefined {
  const next = Buffer.alloc(4);
  return libbpf()[`bpf_${kind}_get_next_id`](id, next) === 0 ? next.readUInt32LE() : undefined;
}
