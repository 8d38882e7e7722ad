import { createHash } from 'node:crypto';

const NEWLINE = 0x0a;
const CHECKSUM_DIGITS = 8;

/** The lines of a journal as they were read. */
export interface Lines {
  /** The values of the lines, in order. Complete unless `fault` is set. */
  readonly values: readonly unknown[];
  /** Bytes of the first line. */
  readonly headLength: number;
  /** Bytes up to the end of the last good line. */
  readonly length: number;
  /** Whether an incomplete line follows the last good one: a crash interrupted the write. */
  readonly torn: boolean;
  /** Why the file cannot be trusted; undefined if it can. */
  readonly fault: string | undefined;
}

/** One line of the journal: the first 8 hexadecimal digits of the SHA-256 of the JSON, a space, the JSON, a newline. */
export function encodeLine(value: unknown): Buffer {
  const json = JSON.stringify(value);
  return Buffer.from(`${checksum(json)} ${json}\n`);
}

/**
 * Decodes the bytes of a journal. Each append is one line and is on disk before the next begins, so a crash can leave
 * only the last line incomplete. The first line is always complete, since a file gets its name only when that line is
 * on disk. A bad line anywhere else means that the file is damaged.
 */
export function decodeLines(bytes: Buffer): Lines {
  const values: unknown[] = [];
  const headLength = bytes.indexOf(NEWLINE) + 1;
  let start = 0;
  while (start < bytes.length) {
    const newline = bytes.indexOf(NEWLINE, start);
    const end = newline === -1 ? bytes.length : newline;
    const line = newline === -1 ? undefined : decodeLine(bytes.subarray(start, end));
    if (line === undefined) {
      const last = end + 1 >= bytes.length;
      const fault = values.length > 0 && last ? undefined : `line ${values.length + 1} does not match its checksum`;
      return { values, headLength, length: start, torn: fault === undefined, fault };
    }
    values.push(line.value);
    start = end + 1;
  }
  const fault = values.length > 0 ? undefined : 'the file is empty';
  return { values, headLength, length: start, torn: false, fault };
}

function decodeLine(line: Buffer): { value: unknown } | undefined {
  const json = line.subarray(CHECKSUM_DIGITS + 1);
  if (line.toString('latin1', 0, CHECKSUM_DIGITS + 1) !== `${checksum(json)} `) return undefined;
  try {
    return { value: JSON.parse(json.toString()) };
  } catch {
    return undefined;
  }
}

function checksum(json: string | Buffer): string {
  return createHash('sha256').update(json).digest('hex').slice(0, CHECKSUM_DIGITS);
}
