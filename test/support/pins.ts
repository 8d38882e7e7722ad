import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';

/*
 * The pins of a bpffs, read from the kernel in this process: for tests that read them thousands of times, for which
 * bpftool would take too long. Everything is opened by its pin. That is safe, while opening by id is not; see
 * kernel-ids.ts.
 */

export interface Pinned {
  /** Path below the bpffs. */
  readonly path: string;
  readonly kind: 'prog' | 'map' | 'link';
  readonly id: number;
  /** For a map: `enum bpf_map_type`. */
  readonly mapType: number;
  /** For a link: the program, and the interface; 0 if the interface is gone or the link was detached. */
  readonly programId: number;
  readonly ifindex: number;
}

export const PROG_ARRAY = 3;

interface Library {
  readonly get: (path: string) => number;
  readonly info: (fd: number, info: Buffer, length: [number]) => number;
  readonly lookup: (fd: number, key: Uint8Array, value: Buffer) => number;
  readonly remove: (fd: number, key: Uint8Array) => number;
  readonly update: (fd: number, key: Uint8Array, value: Uint8Array, flags: number) => number;
  readonly detach: (fd: number) => number;
  readonly close: (fd: number) => number;
}

let bound: Library | undefined;

/** Bound on first use: machines without libbpf import this file too. */
function library(): Library {
  if (bound !== undefined) return bound;
  const [bpf, libc] = [koffi.load('libbpf.so.1'), koffi.load('libc.so.6')];
  bound = {
    get: bpf.func('int bpf_obj_get(const char *path)'),
    info: bpf.func('int bpf_obj_get_info_by_fd(int fd, void *info, _Inout_ uint32_t *length)'),
    lookup: bpf.func('int bpf_map_lookup_elem(int fd, const void *key, void *value)'),
    remove: bpf.func('int bpf_map_delete_elem(int fd, const void *key)'),
    update: bpf.func('int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)'),
    detach: bpf.func('int bpf_link_detach(int fd)'),
    close: libc.func('int close(int fd)'),
  };
  return bound;
}

/** An entry of a bpffs, by its path below it. */
interface Entry {
  readonly path: string;
  readonly isPin: boolean;
}

/**
 * Everything below a bpffs that neither the kernel nor iproute2 has put there. Each bpffs has iterators over all maps and
 * programs from the start (kernel/bpf/preload). Whoever loads a program by ip(8) or tc(8) gets the folder `tc/globals` and
 * links to it in the first bpffs that is mounted, whose it may be (bpf_gen_hierarchy in lib/bpf_legacy.c of iproute2).
 */
export function entriesBelow(bpffs: string): readonly Entry[] {
  const all = readdirSync(bpffs, { recursive: true, withFileTypes: true })
    .filter(({ name }) => !ITERATORS.has(name))
    .map((entry) => ({ path: join(entry.parentPath, entry.name).slice(bpffs.length + 1), entry }));
  const links = all.filter(({ entry }) => entry.isSymbolicLink()).map(({ path }) => path);
  const isTools = links.includes('xdp');
  // Since Node.js 22, folders behind links are listed as well.
  const isLinked = (path: string) => links.some((link) => path === link || path.startsWith(`${link}/`));
  const entries = all
    .filter(({ path }) => !isTools || !isLinked(path))
    .map(({ path, entry }) => ({ path, isPin: entry.isFile() }));
  const isUsed = entries.some(({ path, isPin }) => isPin && path.startsWith('tc/'));
  return entries.filter(({ path }) => !isTools || isUsed || (path !== 'tc' && path !== 'tc/globals'));
}

const ITERATORS: ReadonlySet<string> = new Set(['maps.debug', 'progs.debug']);

/** Every pin below a bpffs. */
export function pinsBelow(bpffs: string): Pinned[] {
  return entriesBelow(bpffs)
    .filter(({ isPin }) => isPin)
    .map(({ path }) => describePin(path, join(bpffs, path)));
}

/** Layouts of `struct bpf_prog_info`, `bpf_map_info` and `bpf_link_info`: include/uapi/linux/bpf.h. */
function describePin(path: string, pin: string): Pinned {
  return withPin(pin, (fd) => {
    const info = Buffer.alloc(256);
    const kind = path.startsWith('links/')
      ? 'link'
      : path.startsWith('progs/') && path.endsWith('/prog')
        ? 'prog'
        : 'map';
    // Later fields of a program's info are inputs too, which request more data: so only the first ones are requested.
    if (library().info(fd, info, [kind === 'prog' ? 32 : info.length]) !== 0)
      throw new Error(`Cannot read the information of ${pin}`);
    const [type, first, second] = [info.readUInt32LE(0), info.readUInt32LE(4), info.readUInt32LE(8)];
    const ofLink = kind === 'link';
    return {
      path,
      kind,
      id: first,
      mapType: kind === 'map' ? type : 0,
      programId: ofLink ? second : 0,
      ifindex: ofLink ? info.readUInt32LE(16) : 0,
    };
  });
}

/** The value under a key of a pinned map, up to 8 bytes; undefined if there is none. */
export function entryAt(pin: string, key: Uint8Array): Uint8Array | undefined {
  return withPin(pin, (fd) => {
    const value = Buffer.alloc(8);
    return library().lookup(fd, key, value) === 0 ? value : undefined;
  });
}

/** The program in a pinned slot (PROG_ARRAY). */
export function slotAt(pin: string): number | null {
  const value = entryAt(pin, KEY_0);
  return value === undefined ? null : Buffer.from(value).readUInt32LE(0);
}

/** Puts another program into a slot, or empties it. */
export function overwriteSlot(pin: string, program: string | undefined): void {
  withPin(pin, (fd) => {
    if (program === undefined) return library().remove(fd, KEY_0);
    return withPin(program, (programFd) => {
      const value = Buffer.alloc(4);
      value.writeUInt32LE(programFd);
      return library().update(fd, KEY_0, value, 0);
    });
  });
}

/** Detaches a pinned link from its hook; it stays pinned. */
export function detachLink(pin: string): void {
  withPin(pin, (fd) => {
    if (library().detach(fd) !== 0) throw new Error(`The link at ${pin} cannot be detached`);
  });
}

const KEY_0 = Buffer.alloc(4);

function withPin<T>(pin: string, use: (fd: number) => T): T {
  const fd = library().get(pin);
  if (fd < 0) throw new Error(`Nothing is pinned at ${pin}`);
  try {
    return use(fd);
  } finally {
    library().close(fd);
  }
}
