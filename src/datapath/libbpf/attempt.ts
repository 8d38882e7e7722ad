/** One thing that the machine can or cannot do. */
export interface Probe {
  readonly name: string;
  readonly ok: boolean;
  /** Why not; or, where there is something to say, what was found. */
  readonly reason: string;
}

/** @param tried throws, saying why not; may return what it found */
export function attempt(name: string, tried: () => string | undefined): Probe {
  try {
    return { name, ok: true, reason: tried() ?? '' };
  } catch (error) {
    return { name, ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}
