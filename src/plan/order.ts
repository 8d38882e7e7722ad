/** Which stretch of a chain has to be rebuilt. Indices into the live and the wanted sequence. */
export interface Stretch {
  /** Members that stay before the stretch, in both sequences. */
  readonly prefix: number;
  /** Members that stay after it, counted from the end, in both sequences. */
  readonly suffix: number;
}

/**
 * The shortest stretch whose replacement turns one sequence into the other: everything before it and behind it stays as it is,
 * slot contents included. Whatever the change (insert, remove, replace, reorder, several of them at once), swapping the stretch
 * takes one write to the slot before it, and so one atomic step for packets.
 *
 * @param live identities in the order in which packets pass them now
 * @param wanted identities in the order asked for; no identity appears twice in either
 */
export function changedStretch(live: readonly string[], wanted: readonly string[]): Stretch {
  const limit = Math.min(live.length, wanted.length);
  let prefix = 0;
  while (prefix < limit && live[prefix] === wanted[prefix]) prefix++;
  return { prefix, suffix: commonEnd(live.slice(prefix), wanted.slice(prefix)) };
}

/** How many elements at their ends two sequences have in common. */
export function commonEnd(one: readonly string[], other: readonly string[]): number {
  const limit = Math.min(one.length, other.length);
  let length = 0;
  while (length < limit && one[one.length - 1 - length] === other[other.length - 1 - length]) length++;
  return length;
}
