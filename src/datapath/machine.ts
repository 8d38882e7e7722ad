import { readFileSync } from 'node:fs';

/**
 * The interfaces of this machine with invented indices, which is enough for planning. Format: proc(5), /proc/net/dev.
 */
export function interfacesOfMachine(): ReadonlyMap<string, number> {
  const lines = readFileSync('/proc/self/net/dev', 'utf8').split('\n').slice(2);
  const names = lines.map((line) => line.split(':', 1)[0]!.trim()).filter((name) => name !== '');
  return new Map(names.map((name, index) => [name, index + 1]));
}
