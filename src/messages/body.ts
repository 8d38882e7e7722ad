import { MAX_MAP_ENTRIES } from '../domain/program.js';
import { type Fault, RefusedError } from '../errors.js';
import { ambiguitiesIn } from './ambiguity.js';
import { MAX_FAULTS, type Path, unexpected } from './faults.js';

const MAX_BODY_BYTES = 1024 * 1024;

/** Keys and values of map_args are at depth 9, and may contain nested structs. No payload needs more than this. */
const MAX_DEPTH = 16;

/** The longest list of any payload. A longer one is rejected before its entries are read. */
const MAX_LIST = MAX_MAP_ENTRIES;

const MAX_DETAIL = 200;
const BYTE_ORDER_MARK = '\uFEFF';

/**
 * Parses a command's body as JSON.
 *
 * @throws RefusedError INVALID_JSON; INVALID_FIELD for a body that is too large or nested too deeply, has a list that
 *   is too long, has the same key twice in an object, or a number that loses digits
 */
export function parseBody(body: Uint8Array): unknown {
  if (body.byteLength > MAX_BODY_BYTES) {
    throw refusal('INVALID_FIELD', `Expected a body of at most ${MAX_BODY_BYTES} bytes, got ${body.byteLength}`);
  }
  const text = decode(body);
  if (text.trim() === '') throw refusal('INVALID_JSON', 'Expected a JSON list of interfaces, got an empty body');
  if (text.startsWith(BYTE_ORDER_MARK)) {
    throw refusal('INVALID_JSON', 'Expected JSON without a byte order mark, got one; save the payload as plain UTF-8');
  }
  const value = parse(text);
  const [first, ...rest] = [...structuralFaults(value), ...ambiguitiesIn(text)].slice(0, MAX_FAULTS);
  if (first !== undefined) throw new RefusedError([first, ...rest]);
  return value;
}

function decode(body: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    throw refusal('INVALID_JSON', 'Expected JSON in UTF-8, got bytes that are not UTF-8');
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const detail = error instanceof Error ? error.message.slice(0, MAX_DETAIL) : '';
    throw refusal('INVALID_JSON', 'Expected a JSON list of interfaces, got text that is not JSON', detail);
  }
}

/** The limits that hold everywhere in a payload. Walks without recursion, since the sender determines the depth. */
function structuralFaults(root: unknown): Fault[] {
  const faults: Fault[] = [];
  const pending: { value: unknown; path: Path }[] = [{ value: root, path: [] }];
  for (let place = pending.pop(); place !== undefined && faults.length < MAX_FAULTS; place = pending.pop()) {
    const { value, path } = place;
    if (typeof value !== 'object' || value === null) continue;
    if (path.length >= MAX_DEPTH) {
      faults.push(unexpected(path, `nested at most ${MAX_DEPTH} deep`, value));
      continue;
    }
    if (Array.isArray(value) && value.length > MAX_LIST) {
      faults.push(unexpected(path, `a list of at most ${MAX_LIST} entries`, value));
      continue;
    }
    for (const [key, child] of Object.entries(value)) {
      const childPath = [...path, Array.isArray(value) ? Number(key) : key];
      if (typeof child === 'object' && child !== null) pending.push({ value: child, path: childPath });
    }
  }
  return faults;
}

function refusal(code: 'INVALID_JSON' | 'INVALID_FIELD', message: string, detail = ''): RefusedError {
  return new RefusedError([{ code, message, ...(detail !== '' && { detail }) }]);
}
