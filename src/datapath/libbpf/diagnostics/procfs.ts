import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/*
 * Reads /proc, where anything may disappear at any moment: what does not exist is read as empty.
 */

/** Ids of all processes, as /proc names them. */
export function processIds(): string[] {
  return entriesOf('/proc').filter((name) => /^[0-9]+$/.test(name));
}

export function entriesOf(dir: string): string[] {
  return orElse([], () => readdirSync(dir));
}

/** Byte by byte, regardless of the encoding. */
export function textAt(path: string): string {
  return orElse('', () => readFileSync(path, 'latin1'));
}

/** The target of a symbolic link. */
export function linkAt(path: string): string {
  return orElse('', () => readlinkSync(path));
}

function orElse<T>(absent: T, read: () => T): T {
  try {
    return read();
  } catch {
    return absent;
  }
}
