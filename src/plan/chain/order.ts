/** The stretch of a chain that must be rebuilt, as indices into the live and the wanted sequence. */
export interface Stretch {
  /** Members that stay before the stretch, in both sequences. */
  readonly prefix: number;
  /** Members that stay after the stretch, counted from the end, in both sequences. */
  readonly suffix: number;
}

/**
 * Finds the shortest stretch whose replacement turns one sequence into the other. Everything before and after it stays
 * as it is, slot contents included. Any change (insert, remove, replace, reorder, or several at once) then takes one
 * write to the slot before the stretch. For packets this is one atomic step.
 *
 * @param live identities in the order in which packets pass them now
 * @param wanted identities in the requested order; no identity appears twice in either sequence
 */
export function changedStretch(live: readonly string[], wanted: readonly string[]): Stretch {
  const limit = Math.min(live.length, wanted.length);
  let prefix = 0;
  while (prefix < limit && live[prefix] === wanted[prefix]) prefix++;
  return { prefix, suffix: commonEnd(live.slice(prefix), wanted.slice(prefix)) };
}

/** How many elements two sequences have in common at their ends. */
export function commonEnd(one: readonly string[], other: readonly string[]): number {
  const limit = Math.min(one.length, other.length);
  let length = 0;
  while (length < limit && one[one.length - 1 - length] === other[other.length - 1 - length]) length++;
  return length;
}
