/** Limits for fetching one file. Times in milliseconds, sizes in bytes. */
export interface FetchLimits {
  /** For one file, including all attempts and the pauses between them. */
  readonly totalMs: number;
  /** How long a server may send nothing: while connecting, before the response, and between parts of it. */
  readonly idleMs: number;
  readonly maxBytes: number;
  readonly maxRedirects: number;
  /** How many attempts are made, if each fails with a transient fault. */
  readonly tries: number;
  /** Pause after the first attempt; doubled after each further one. */
  readonly backoffMs: number;
}

export const FETCH_LIMITS: FetchLimits = {
  totalMs: 60_000,
  idleMs: 15_000,
  maxBytes: 256 * 1024 * 1024,
  maxRedirects: 5,
  tries: 3,
  backoffMs: 250,
};

/** Limits for unpacking an archive. Sizes in bytes. */
export interface UnpackLimits {
  /** Files and folders together. */
  readonly maxEntries: number;
  readonly maxBytes: number;
  /** Unpacked size over archive size. Does not apply below {@link RATIO_FLOOR}. */
  readonly maxRatio: number;
}

export const UNPACK_LIMITS: UnpackLimits = {
  maxEntries: 1000,
  maxBytes: 512 * 1024 * 1024,
  maxRatio: 200,
};

/** A small archive of zeros has a huge ratio, but is harmless. */
export const RATIO_FLOOR = 1024 * 1024;

/** Limits for packages in the cache that nothing uses any more. They are kept because a roll-back may need them. */
export interface KeepLimits {
  /** Since they were last used, in milliseconds. */
  readonly unusedMs: number;
  /** Of all packages in the cache. Packages in use are always kept, whatever their size. */
  readonly maxBytes: number;
}

export const KEEP_LIMITS: KeepLimits = {
  unusedMs: 7 * 24 * 3600 * 1000,
  maxBytes: 2 * 1024 * 1024 * 1024,
};
