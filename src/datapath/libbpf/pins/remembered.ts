import type { Dirent } from 'node:fs';

type Listings = readonly (readonly Dirent[])[];

/**
 * What was read about pins and cannot change while the listings of their folders are the same: what is pinned under a
 * name stays the same object until somebody removes or replaces the name.
 */
export class Remembered<T> {
  #before = new Map<string, { readonly listings: Listings; readonly value: T }>();
  #now = new Map<string, { readonly listings: Listings; readonly value: T }>();

  /** Begins a look. What the last look has not asked for is forgotten. */
  refresh(): void {
    this.#before = this.#now;
    this.#now = new Map();
  }

  /**
   * @param path what it is about
   * @param listings of all folders that `read` depends on, from {@link WatchedFolders}: their identity counts
   */
  of(path: string, listings: Listings, read: () => T): T {
    const known = this.#now.get(path) ?? this.#before.get(path);
    const isSame = known?.listings.every((listing, index) => listing === listings[index]) === true;
    const entry = isSame ? known : { listings, value: read() };
    this.#now.set(path, entry);
    return entry.value;
  }
}
