import { type Dirent, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { Fd } from '../abi/fd.js';
import { libc } from '../abi/ffi.js';
import { INOTIFY_EVENT } from '../abi/structs.js';
import { type Folders, UNWATCHED_FOLDERS } from './pins.js';

/** Flags of inotify_init1(2): IN_NONBLOCK and IN_CLOEXEC. */
const FLAGS = 0o4000 | 0o2000000;

/** include/uapi/linux/inotify.h */
const IN = {
  MOVED_FROM: 0x40,
  MOVED_TO: 0x80,
  CREATE: 0x100,
  DELETE: 0x200,
  MOVE_SELF: 0x800,
  UNMOUNT: 0x2000,
  Q_OVERFLOW: 0x4000,
  IGNORED: 0x8000,
  ONLYDIR: 0x1000000,
  ISDIR: 0x40000000,
} as const;

const WATCHED = IN.MOVED_FROM | IN.MOVED_TO | IN.CREATE | IN.DELETE | IN.MOVE_SELF | IN.ONLYDIR;

const BUFFER = 16 * 1024;

/** One array, so that what is absent is the same each time. */
const NOTHING: readonly Dirent[] = [];

/**
 * After this time everything is read again, in milliseconds. It covers what is not reported: something else that is
 * mounted over a folder.
 */
const READ_AGAIN_AFTER_MS = 60_000;

/**
 * Listings of the folders of a bpffs, kept as long as nothing is reported about them by inotify(7). The kernel reports
 * each pin that is made, removed or renamed before the call that does so returns, whoever calls. So a look costs one
 * read(2), however much is pinned.
 *
 * As long as nothing is reported about a folder, the same array is returned for it. Whoever knows something about the
 * pins in it can compare the array with the one from which it was known.
 */
export class WatchedFolders implements Folders {
  readonly #root: string;
  readonly #listings = new Map<string, readonly Dirent[]>();
  /** Paths by watch descriptor. */
  readonly #paths = new Map<number, string>();
  /** Absent until the first look, and where inotify is not available. Then nothing is kept. */
  #watch: Fd | undefined;
  #rootIs = '';
  #readAt = 0;

  /** @param root the mount point of the bpffs */
  constructor(root: string) {
    this.#root = root;
  }

  /** Begins a look: takes notice of what was reported since the last one. */
  refresh(): void {
    const root = statSync(this.#root, { bigint: true, throwIfNoEntry: false });
    const rootIs = `${root?.dev} ${root?.ino}`;
    const isOld = performance.now() - this.#readAt > READ_AGAIN_AFTER_MS;
    if (this.#watch !== undefined && rootIs === this.#rootIs && !isOld && this.#takeReports(this.#watch)) return;
    this.close();
    this.#rootIs = rootIs;
    this.#readAt = performance.now();
    const number = libc().inotify_init1(FLAGS);
    if (number >= 0) this.#watch = new Fd(number);
  }

  entriesOf(dir: string): readonly Dirent[] {
    const known = this.#listings.get(dir);
    if (known !== undefined) return known;
    if (this.#isAbsent(dir)) return NOTHING;
    // Watched before it is listed: a change in between is reported, and the listing is dropped.
    const isWatched = this.#follow(dir);
    const entries = UNWATCHED_FOLDERS.entriesOf(dir);
    if (isWatched) this.#listings.set(dir, entries);
    return entries;
  }

  /** Forgets everything. It can be used again. */
  close(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#listings.clear();
    this.#paths.clear();
  }

  /** @returns false if everything must be read again */
  #takeReports(watch: Fd): boolean {
    const buffer = Buffer.allocUnsafe(BUFFER);
    for (;;) {
      const length = libc().read(watch.number, buffer, buffer.length);
      if (length <= 0) return true;
      for (let at = 0; at < length; at += INOTIFY_EVENT.size + INOTIFY_EVENT.read(buffer, 'len', at)) {
        const [begin, end] = [at + INOTIFY_EVENT.size, at + INOTIFY_EVENT.size + INOTIFY_EVENT.read(buffer, 'len', at)];
        const name = buffer.toString('utf8', begin, end).replace(/\0+$/, '');
        const [descriptor, mask] = [INOTIFY_EVENT.read(buffer, 'wd', at), INOTIFY_EVENT.read(buffer, 'mask', at)];
        if (!this.#takeReport(descriptor, mask, name)) return false;
      }
    }
  }

  #takeReport(descriptor: number, mask: number, name: string): boolean {
    if ((mask & (IN.Q_OVERFLOW | IN.UNMOUNT | IN.MOVE_SELF)) !== 0) return false;
    const path = this.#paths.get(descriptor);
    if ((mask & IN.IGNORED) !== 0) this.#paths.delete(descriptor);
    if (path === undefined) return true;
    this.#listings.delete(path);
    if ((mask & IN.ISDIR) !== 0 && name !== '') this.#forgetBelow(`${path}/${name}`);
    return true;
  }

  /** A folder that is made, removed or moved: another one may have had its path. */
  #forgetBelow(dir: string): void {
    for (const path of this.#listings.keys()) {
      if (path === dir || path.startsWith(`${dir}/`)) this.#listings.delete(path);
    }
  }

  /** Whether the listing of a folder above says that there is no such folder. */
  #isAbsent(dir: string): boolean {
    if (dir === this.#root || !dir.startsWith(`${this.#root}/`)) return false;
    const above = this.#listings.get(dirname(dir));
    if (above === undefined) return this.#isAbsent(dirname(dir));
    return !above.some(({ name }) => name === basename(dir));
  }

  #follow(dir: string): boolean {
    if (this.#watch === undefined) return false;
    const descriptor = libc().inotify_add_watch(this.#watch.number, dir, WATCHED);
    // There is no such folder, or the user has no watch left (fs.inotify.max_user_watches).
    if (descriptor < 0) return false;
    // The kernel has one watch for each folder, by whatever path.
    const former = this.#paths.get(descriptor);
    if (former !== undefined && former !== dir) this.#listings.delete(former);
    this.#paths.set(descriptor, dir);
    return true;
  }
}
