import { existsSync, readdirSync } from 'node:fs';
import { PROG_ARRAY } from '../../../domain/map-types.js';
import { tryOpenAny, tryOpenId } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { type IdKind, idsOf, usersOf } from '../abi/ids.js';
import { linkInfo, mapInfo, programInfo } from '../abi/info.js';
import { filesBelow } from '../pins/pins.js';
import { entriesOf, linkAt, processIds, textAt } from './procfs.js';

interface Held {
  readonly kind: IdKind;
  readonly id: number;
}

/** Maps `prog 12` to descriptions of what keeps it in the kernel. */
export type Holders = ReadonlyMap<string, readonly string[]>;

/**
 * Finds what keeps programs, maps and links in the kernel: other programs, links, pins and slots on any bpffs,
 * processes. For messages to people. It searches the whole host, and does not find holders that are TC filters or maps
 * of maps. Maps are only opened through a pin, which holds them during that time: see ids.ts.
 */
export function holdersOf(held: readonly Held[]): Holders {
  const found = new Map<string, string[]>(held.map(({ kind, id }) => [`${kind} ${id}`, []]));
  const note = (kind: IdKind, id: number, holder: string) => found.get(`${kind} ${id}`)?.push(holder);
  const idsOfKind = (wanted: IdKind) => new Set(held.filter(({ kind }) => kind === wanted).map(({ id }) => id));

  noteLinks(note);
  for (const { programId, mapIds } of usersOf(idsOfKind('map'))) {
    for (const id of mapIds) note('map', id, `program ${programId}${nameOf(programId)}`);
  }
  for (const path of pinsOfHost()) notePin(path, note);
  noteProcesses(note);
  return found;
}

type Note = (kind: IdKind, id: number, holder: string) => void;

function noteLinks(note: Note): void {
  for (const id of idsOf('link')) {
    using link = tryOpenId('link', id);
    if (link !== undefined) note('prog', linkInfo(link.number).programId, `link ${id}`);
  }
}

function nameOf(programId: number): string {
  using program = tryOpenId('prog', programId);
  return program === undefined ? '' : ` (${programInfo(program.number).name})`;
}

/** Notes what is pinned at a path, and for a PROG_ARRAY its entries. */
function notePin(path: string, note: Note): void {
  using pinned = tryOpen(path);
  if (pinned === undefined) return;
  if (pinned.isA('link')) note('link', linkInfo(pinned.number).id, `the pin ${path}`);
  else if (pinned.isA('prog')) note('prog', programInfo(pinned.number).id, `the pin ${path}`);
  else if (pinned.isA('map')) {
    const { id, type, maxEntries } = mapInfo(pinned.number);
    note('map', id, `the pin ${path}`);
    if (type !== PROG_ARRAY) return;
    const [key, value] = [Buffer.alloc(4), Buffer.alloc(4)];
    for (let index = 0; index < maxEntries; index += 1) {
      key.writeUInt32LE(index);
      const isSet = libbpf().bpf_map_lookup_elem(pinned.number, key, value) === 0;
      if (isSet)
        note('prog', value.readUInt32LE(), `entry ${index} of the PROG_ARRAY with id ${id}, pinned at ${path}`);
    }
  }
}

/**
 * Undefined for a pin that was removed in the meantime, and for files that are not pins: the kernel's iterators are
 * files in each bpffs.
 */
function tryOpen(path: string) {
  try {
    return tryOpenAny(path);
  } catch {
    return undefined;
  }
}

/**
 * Every pin of the host: those in this mount namespace and, through a process in each, those in the others. A bpffs
 * that several namespaces share is read once.
 */
function* pinsOfHost(): Generator<string> {
  const namespaces = new Set<string>();
  const seen = new Set<string>();
  for (const pid of ['self', ...processIds()]) {
    const namespace = linkAt(`/proc/${pid}/ns/mnt`);
    if (namespace === '' || namespaces.has(namespace)) continue;
    namespaces.add(namespace);
    for (const { device, path } of mountedBpffs(pid)) {
      if (seen.has(device)) continue;
      seen.add(device);
      try {
        yield* filesBelow(pid === 'self' ? path : `/proc/${pid}/root${path}`);
      } catch {
        // A foreign bpffs that we may not read.
      }
    }
  }
}

/** As a process sees them; proc(5), /proc/pid/mountinfo: device and root identify a file system, or a part of it. */
function mountedBpffs(pid: string): { readonly device: string; readonly path: string }[] {
  return textAt(`/proc/${pid}/mountinfo`)
    .split('\n')
    .filter((line) => line.includes(' - bpf '))
    .map((line) => {
      const [, , device, top, path] = line.split(' ');
      return { device: `${device} ${top}`, path: path!.replaceAll('\\040', ' ') };
    });
}

/** The host's PID namespace (PROC_PID_INIT_INO in include/linux/proc_ns.h). */
const HOST_PID_NAMESPACE = 'pid:[4026531836]';

/**
 * Whether the descriptors of all processes of the host can be read, so that {@link holdersOf} finds every process that
 * holds something. A container sees only its own processes. Without CAP_SYS_PTRACE, those with more capabilities are
 * not readable.
 */
export function seesAllProcesses(): boolean {
  if (linkAt('/proc/self/ns/pid') !== HOST_PID_NAMESPACE) return false;
  return processIds().every(isReadable);
}

function isReadable(pid: string): boolean {
  try {
    readdirSync(`/proc/${pid}/fdinfo`);
    return true;
  } catch {
    return !existsSync(`/proc/${pid}`);
  }
}

/** `/proc/<pid>/fdinfo` shows the object behind each descriptor of a program, map or link. */
function noteProcesses(note: Note): void {
  for (const pid of processIds()) {
    const seen = new Set<string>();
    for (const fd of entriesOf(`/proc/${pid}/fdinfo`)) {
      const matches = textAt(`/proc/${pid}/fdinfo/${fd}`).matchAll(/^(prog|map|link)_id:\s+([0-9]+)$/gm);
      for (const [, kind, id] of matches) seen.add(`${kind} ${id}`);
    }
    if (seen.size === 0) continue;
    const holder = `process ${pid} (${textAt(`/proc/${pid}/comm`).trim()})`;
    for (const object of seen) {
      const [kind, id] = object.split(' ') as [IdKind, string];
      note(kind, Number(id), holder);
    }
  }
}
