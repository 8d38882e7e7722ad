import type { Fault } from '../errors.js';
import { faultAt, MAX_FAULTS, type Path, shown } from './faults.js';

/*
 * Two readers may understand the same JSON text differently: JSON.parse takes the last of two equal keys and rounds
 * numbers without a word. A command must mean the same to everybody.
 */

interface Place {
  /** Keys that the object has had so far; undefined for a list. */
  readonly keys: Set<string> | undefined;
  /** The current key or index. */
  at: PropertyKey;
  /** Whether the next string is a key. */
  expectsKey: boolean;
}

/** Space between tokens, and one token: a string, a number, a bracket, a comma or a literal. A colon is space here. */
const TOKEN = /[\s:]*("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[[\]{},]|true|false|null)/y;

/**
 * What is ambiguous in a JSON text: a key that an object has twice, the key `__proto__`, and a number that loses digits.
 *
 * @param text which JSON.parse accepts
 * @returns at most {@link MAX_FAULTS}
 */
export function ambiguitiesIn(text: string): Fault[] {
  const faults: Fault[] = [];
  const places: Place[] = [];
  TOKEN.lastIndex = 0;
  for (let token = TOKEN.exec(text)?.[1]; token !== undefined && faults.length < MAX_FAULTS; ) {
    const place = places.at(-1);
    const path = (): Path => places.map(({ at }) => at);
    if (token === '{') places.push({ keys: new Set(), at: '', expectsKey: true });
    else if (token === '[') places.push({ keys: undefined, at: 0, expectsKey: false });
    else if (token === '}' || token === ']') places.pop();
    else if (token === ',') next(place);
    else if (token.startsWith('"')) {
      if (place?.keys !== undefined && place.expectsKey) {
        const key = JSON.parse(token) as string;
        place.at = key;
        place.expectsKey = false;
        if (place.keys.has(key)) {
          const message = `Expected every key of an object once, got ${shown(key)} twice`;
          faults.push(faultAt(path(), 'INVALID_FIELD', message));
        }
        // JSON.parse takes it for a field, and nearly everything else for the object's prototype.
        if (key === '__proto__') {
          faults.push(faultAt(path(), 'UNKNOWN_FIELD', 'Expected only known fields, got "__proto__"; remove it'));
        }
        place.keys.add(key);
      }
    } else if (losesDigits(token)) {
      const message = `Expected a number that a 64-bit floating-point value can hold, got ${shown(token)}`;
      faults.push(faultAt(path(), 'INVALID_FIELD', message));
    }
    token = TOKEN.exec(text)?.[1];
  }
  return faults;
}

function next(place: Place | undefined): void {
  if (place === undefined) return;
  if (place.keys === undefined) place.at = Number(place.at) + 1;
  else place.expectsKey = true;
}

/** Always exact, and nearly every number of a payload. */
const SHORT_INTEGER = /^-?\d{1,15}$/;

/** Whether JSON.parse gives another number than the text says. */
function losesDigits(token: string): boolean {
  if (!/^-?\d/.test(token) || SHORT_INTEGER.test(token)) return false;
  const value = Number(token);
  return !Number.isFinite(value) || canonical(token) !== canonical(String(value));
}

/** One text for all ways to write a number: its digits without zeros at the ends, and the exponent of the last one. */
function canonical(number: string): string {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(number) ?? [];
  const digits = `${whole}${fraction}`.replace(/^0+/, '');
  const significant = digits.replace(/0+$/, '');
  if (significant === '') return '0';
  return `${sign}${significant}e${Number(exponent) - fraction.length + digits.length - significant.length}`;
}
