import type { Envelope } from '../domain/admission.js';
import { type Fault, RefusedError } from '../errors.js';
import { shown } from './faults.js';
import { instant } from './reading.js';
import { HEADERS } from './subjects.js';

/** A command's headers as received; undefined where a header is absent. */
export interface RawEnvelope {
  readonly id: string;
  readonly gen: string | undefined;
  readonly prevGen: string | undefined;
  readonly expires: string | undefined;
}

/** The envelope with the id of the command. */
export interface CommandEnvelope extends Envelope {
  readonly id: string;
}

const MAX_ID = 256;
const ID = new RegExp(`^[!-~]{1,${MAX_ID}}$`);
const DIGITS = /^(0|[1-9][0-9]{0,15})$/;

/**
 * Reads a command's headers.
 *
 * @throws RefusedError INVALID_FIELD with every header that is wrong. The faults have no path, since headers are not in
 *   the payload
 */
export function parseEnvelope(raw: RawEnvelope): CommandEnvelope {
  const gen = parseGeneration(raw.gen);
  const prevGen = parseGeneration(raw.prevGen);
  const expires = parseInstant(raw.expires);
  const faults = [
    !ID.test(raw.id) && wrong('Nats-Msg-Id', `1 to ${MAX_ID} printable ASCII characters without blanks`, raw.id),
    (Number.isNaN(gen) || gen === 0) && wrong(HEADERS.gen, 'an integer from 1 to 2^53 - 1', raw.gen),
    Number.isNaN(prevGen) && wrong(HEADERS.prevGen, 'an integer from 0 to 2^53 - 1', raw.prevGen),
    expires === null && wrong(HEADERS.expires, 'a time as in 2026-01-31T12:00:00Z (RFC 3339)', raw.expires),
    prevGen !== undefined && gen === undefined && wrong(HEADERS.gen, `present with ${HEADERS.prevGen}`, raw.gen),
    prevGen !== undefined &&
      gen !== undefined &&
      prevGen >= gen &&
      wrong(HEADERS.prevGen, `smaller than ${HEADERS.gen} (${gen})`, raw.prevGen),
  ].filter((fault) => fault !== false);
  const [first, ...rest] = faults;
  if (first !== undefined) throw new RefusedError([first, ...rest]);
  return { id: raw.id, gen, prevGen, expires: expires ?? undefined };
}

/** @returns NaN if the text is not a generation */
function parseGeneration(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = DIGITS.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : Number.NaN;
}

/** @returns null if the text is not a time */
function parseInstant(text: string | undefined): Date | undefined | null {
  if (text === undefined) return undefined;
  return instant.safeParse(text).success ? new Date(text) : null;
}

function wrong(header: string, expected: string, value: string | undefined): Fault {
  return { code: 'INVALID_FIELD', message: `Expected the header ${header} to be ${expected}, got ${shown(value)}` };
}
