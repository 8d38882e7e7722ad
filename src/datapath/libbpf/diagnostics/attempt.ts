import { messageOf } from '../../../errors.js';

/** A feature of the machine, supported or not. */
export interface Feature {
  readonly name: string;
  readonly ok: boolean;
  /** Why it is not supported; or details of what was found, if there are any. */
  readonly reason: string;
}

/** @param tried throws an error with the reason if the feature is missing; may return what it found */
export function attempt(name: string, tried: () => string | undefined): Feature {
  try {
    return { name, ok: true, reason: tried() ?? '' };
  } catch (error) {
    return { name, ok: false, reason: messageOf(error) };
  }
}
