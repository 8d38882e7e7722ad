import { readdirSync, readFileSync } from 'node:fs';
import { PROG_ARRAY } from '../../domain/mapvalue.js';
import { tryOpenAny, tryOpenId } from './fd.js';
import { libbpf } from './ffi.js';
import { type IdKind, idsOf, usersOf } from './ids.js';
import { linkInfo, mapInfo, programInfo } from './info.js';
import { filesBelow } from './pins.js';

interface Held {
  readonly kind: IdKind;
  readonly id: number;
}

/** `prog 12` to who keeps it in the kernel, in words. */
export type Holders = ReadonlyMap<string, readonly string[]>;

/**
 * Who keeps programs, maps and links in the kernel: other programs, links, pins and slots on any bpffs, processes. For a message to a
 * person; it looks through the whole host, and finds nothing where a TC filter or a map of maps is the holder. No map is opened but by a
 * pin, which holds it meanwhile: see ids.ts.
 */
export function holdersOf(held: readonly Held[]): Holders {
  const found = new Map<string, string[]>(held.map(({ kind, id }) => [`${kind} ${id}`, []]));
  const note = (kind: IdKind, id: number, holder: string) => found.get(`${kind} ${id}`)?.push(holder);
  const idsOfKind = (wanted: IdKind) => new Set(held.filter(({ kind }) => kind === wanted).map(({ id }) => id));

  noteLinks(note);
  for (const { programId, mapIds } of usersOf(idsOfKind('map'))) {
    for (const id of mapIds) note('map', id, `program ${programId}${nameOf(programId)}`);
  }
  for (const path of mountedBpffs().flatMap((mount) => [...filesBelow(mount)])) notePin(path, note);
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

/** What is pinned at a path, and of a PROG_ARRAY what is in it. */
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

/** Nothing for a pin that went away meanwhile, or that is none: the kernel's own iterators are files in each bpffs. */
function tryOpen(path: string) {
  try {
    return tryOpenAny(path);
  } catch {
    return undefined;
  }
}

/** Mount points of bpffs, as far as this process sees them; proc(5), /proc/pid/mountinfo. */
function mountedBpffs(): string[] {
  return read('/proc/self/mountinfo')
    .split('\n')
    .filter((line) => line.includes(' - bpf '))
    .map((line) => line.split(' ')[4]!.replaceAll('\\040', ' '));
}

/** The kernel shows in `/proc/<pid>/fdinfo` what a descriptor of a program, map or link stands for. */
function noteProcesses(note: Note): void {
  for (const pid of list('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    const seen = new Set<string>();
    for (const fd of list(`/proc/${pid}/fdinfo`)) {
      const matches = read(`/proc/${pid}/fdinfo/${fd}`).matchAll(/^(prog|map|link)_id:\s+([0-9]+)$/gm);
      for (const [, kind, id] of matches) seen.add(`${kind} ${id}`);
    }
    if (seen.size === 0) continue;
    const holder = `process ${pid} (${read(`/proc/${pid}/comm`).trim()})`;
    for (const object of seen) {
      const [kind, id] = object.split(' ') as [IdKind, string];
      note(kind, Number(id), holder);
    }
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
