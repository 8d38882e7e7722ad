/**
 * How often a test repeats what must succeed each time: often enough to find a typical mistake while somebody waits for
 * the result, and often enough to find a rare one in `npm run test:full`. Only the number differs.
 */
export function repeats({ usual, full }: { readonly usual: number; readonly full: number }): number {
  return process.env.L3AF_TEST_LENGTH === 'full' ? full : usual;
}
