/** Bounds on fetching one file. Times in milliseconds, sizes in bytes. */
export interface FetchLimits {
  /** For one file, all tries and the pauses between them included. */
  readonly totalMs: number;
  /** For a server that sends nothing: while connecting, before the answer and between parts of it. */
  readonly idleMs: number;
  readonly maxBytes: number;
  readonly maxRedirects: number;
  /** How often a fault that may pass is met before giving up. */
  readonly tries: number;
  /** Pause after the first try; doubled after each further one. */
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

/** Bounds on what an archive may unpack to. Sizes in bytes. */
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

/** A small archive of zeros has a huge ratio and does no harm. */
export const RATIO_FLOOR = 1024 * 1024;

/** Bounds on what the cache keeps of packages that nothing asks for any more: a roll-back may want them. */
export interface KeepLimits {
  /** Since they were last used, in milliseconds. */
  readonly unusedMs: number;
  /** Of everything that is kept. What is asked for is kept however large it is. */
  readonly maxBytes: number;
}

export const KEEP_LIMITS: KeepLimits = {
  unusedMs: 7 * 24 * 3600 * 1000,
  maxBytes: 2 * 1024 * 1024 * 1024,
};
