import { readdirSync, readFileSync } from 'node:fs';
import { tryOpenId } from './fd.js';
import { libbpf } from './ffi.js';
import { linkInfo, mapInfo } from './info.js';

const BPF_MAP_TYPE_PROG_ARRAY = 3;

/**
 * Who keeps a program in the kernel: links, slots and processes. For a message to a person; it looks through the whole host,
 * and finds nothing where a pin on another path or a TC filter is the holder. Only for when something is wrong: opening a PROG_ARRAY
 * at the moment when its last user goes makes the kernel keep it for good (see test/support/kernel-ids.ts).
 */
export function holdersOf(programId: number): string[] {
  return [...linksOf(programId), ...slotsOf(programId), ...processesOf(programId)];
}

function* linksOf(programId: number): Generator<string> {
  for (const id of idsOf('link')) {
    using link = tryOpenId('link', id);
    if (link !== undefined && linkInfo(link.number).programId === programId) yield `link ${id}`;
  }
}

function* slotsOf(programId: number): Generator<string> {
  const [key, value] = [Buffer.alloc(4), Buffer.alloc(4)];
  for (const id of idsOf('map')) {
    using map = tryOpenId('map', id);
    if (map === undefined) continue;
    const { type, maxEntries } = mapInfo(map.number);
    if (type !== BPF_MAP_TYPE_PROG_ARRAY) continue;
    for (let index = 0; index < maxEntries; index += 1) {
      key.writeUInt32LE(index);
      const found = libbpf().bpf_map_lookup_elem(map.number, key, value) === 0;
      if (found && value.readUInt32LE() === programId) yield `entry ${index} of the PROG_ARRAY with id ${id}`;
    }
  }
}

function* idsOf(kind: 'map' | 'link'): Generator<number> {
  const next = Buffer.alloc(4);
  for (let id = 0; libbpf()[`bpf_${kind}_get_next_id`](id, next) === 0; ) {
    id = next.readUInt32LE();
    yield id;
  }
}

/** The kernel shows in `/proc/<pid>/fdinfo` what a descriptor of a program or link stands for. */
function* processesOf(programId: number): Generator<string> {
  const mark = new RegExp(`^prog_id:\\s+${programId}$`, 'm');
  for (const pid of list('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    const holds = list(`/proc/${pid}/fdinfo`).some((fd) => mark.test(read(`/proc/${pid}/fdinfo/${fd}`)));
    if (holds) yield `process ${pid} (${read(`/proc/${pid}/comm`).trim()})`;
  }
}

/** Empty for a process that went away meanwhile. */
function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
