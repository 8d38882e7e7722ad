import type { z } from 'zod';
import type { ErrorCode, Fault } from '../errors.js';

/** The place of a value in a payload. */
export type Path = readonly PropertyKey[];

/** The most faults that an acknowledgement has. More would not help anybody. */
export const MAX_FAULTS = 50;

const SHOWN_CHARACTERS = 40;

/**
 * Keys that are shown unchanged in a path. Any other key may contain dots or be very long: the path of its parent is
 * given instead.
 */
const PLAIN_KEY = /^[A-Za-z0-9_-]{1,64}$/;

/** Fields of earlier payloads, and the fields that replaced them. */
const FORMER_FIELDS: Readonly<Record<string, string>> = { bpf_program_names: 'bpf_programs' };

/** `0.bpf_programs.xdp_ingress.2.seq_id` */
export function pathText(path: Path): string {
  const odd = path.findIndex((key) => !PLAIN_KEY.test(String(key)));
  return (odd === -1 ? path : path.slice(0, odd)).map(String).join('.');
}

/** A fault at a place; without `path` when it concerns the payload as a whole. */
export function faultAt(path: Path, code: ErrorCode, message: string): Fault {
  const text = pathText(path);
  return text === '' ? { code, message } : { path: text, code, message };
}

/** An INVALID_FIELD fault. */
export function unexpected(path: Path, expected: string, value: unknown): Fault {
  return faultAt(path, 'INVALID_FIELD', expectation(path, expected, value));
}

/** "Expected seq_id to be an integer, got a list of 3 entries" */
export function expectation(path: Path, expected: string, value: unknown): string {
  return `Expected ${fieldName(path)} to be ${expected}, got ${shown(value)}`;
}

/**
 * Turns zod's issues into faults. The schemas give every issue a noun phrase as its message (see domain/forms.ts), and
 * the rules of checks.ts a whole sentence and a code. zod's own texts are never shown.
 *
 * @returns at least one, and at most {@link MAX_FAULTS}
 */
export function faultsOfIssues(issues: readonly z.core.$ZodIssue[], payload: unknown): readonly [Fault, ...Fault[]] {
  const faults: Fault[] = [];
  const seen = new Set<string>();
  for (const issue of issues) {
    if (faults.length >= MAX_FAULTS) break;
    if (issue.code === 'unrecognized_keys') {
      const { path } = issue;
      const keys = issue.keys.slice(0, MAX_FAULTS);
      const names = 'names' in issue ? String(issue.names) : undefined;
      faults.push(...keys.map((key) => (names === undefined ? unknownField(path, key) : wrongName(path, key, names))));
      continue;
    }
    if (issue.code === 'custom' && issue.params?.code !== undefined) {
      faults.push(faultAt(issue.path, issue.params.code, issue.message));
      continue;
    }
    const { path, message } = innermost(issue);
    const fault = unexpected(path, message, valueAt(payload, path));
    const place = fault.path ?? '';
    if (!seen.has(place)) faults.push(fault);
    seen.add(place);
  }
  return faults.slice(0, MAX_FAULTS) as [Fault, ...Fault[]];
}

/**
 * A union may accept values of several depths (lists, and objects that contain themselves). The deepest issue is the
 * real fault.
 */
function innermost(issue: z.core.$ZodIssue): { path: Path; message: string } {
  if (issue.code !== 'invalid_union') return issue;
  return issue.errors
    .flat()
    .filter(({ path }) => path.length > 0)
    .map((inner) => innermost(inner))
    .map(({ path, message }) => ({ path: [...issue.path, ...path], message }))
    .reduce<{ path: Path; message: string }>(
      (deepest, other) => (other.path.length > deepest.path.length ? other : deepest),
      issue,
    );
}

function unknownField(parent: Path, key: string): Fault {
  const successor = Object.hasOwn(FORMER_FIELDS, key) ? FORMER_FIELDS[key] : undefined;
  const hint = successor === undefined ? 'remove it or correct its spelling' : `use ${successor}`;
  return faultAt([...parent, key], 'UNKNOWN_FIELD', `Expected only known fields, got ${shown(key)}; ${hint}`);
}

/** For a key of an object that accepts any key with a valid name. */
function wrongName(path: Path, key: string, names: string): Fault {
  return faultAt(
    path,
    'INVALID_FIELD',
    `Expected the options in ${fieldName(path)} to have ${names}, got ${shown(key)}`,
  );
}

/** The value at a path. Only the payload's own properties are followed. */
function valueAt(payload: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null && Object.hasOwn(value, key)
        ? (value as Record<PropertyKey, unknown>)[key]
        : undefined,
    payload,
  );
}

/** The last named part of a path and what follows it: `seq_id`, `xdp_ingress.2`. */
function fieldName(path: Path): string {
  const start = path.findLastIndex((key) => typeof key === 'string');
  if (start === -1) return path.length === 0 ? 'the body' : `entry ${pathText(path)} of the body`;
  return pathText(path.slice(start)) || 'the field';
}

/** A value in a sentence: on one line and short, also for a large value. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return value.length === 1 ? 'a list of 1 entry' : `a list of ${value.length} entries`;
  if (typeof value === 'object') return 'an object';
  if (typeof value !== 'string') return String(value);
  return value.length <= SHOWN_CHARACTERS
    ? JSON.stringify(value)
    : `${JSON.stringify(value.slice(0, SHOWN_CHARACTERS))}… (${value.length} characters)`;
}
