import type { z } from 'zod';
import type { ErrorCode, Fault } from '../errors.js';

/** Where something stands in a payload. */
export type Path = readonly PropertyKey[];

/** As many faults as an acknowledgement carries; who sees 50 knows enough. */
export const MAX_FAULTS = 50;

const SHOWN_CHARACTERS = 40;

/**
 * Keys that are shown in a path as they are. Any other may hold dots or be very long: its parent's path is given
 * instead.
 */
const PLAIN_KEY = /^[A-Za-z0-9_-]{1,64}$/;

/** Fields of earlier payloads, and where their content belongs. */
const FORMER_FIELDS: Readonly<Record<string, string>> = { bpf_program_names: 'bpf_programs' };

/** `0.bpf_programs.xdp_ingress.2.seq_id` */
export function pathText(path: Path): string {
  const odd = path.findIndex((key) => !PLAIN_KEY.test(String(key)));
  return (odd === -1 ? path : path.slice(0, odd)).map(String).join('.');
}

/** A fault at a place; without `path` when the payload as a whole is to blame. */
export function faultAt(path: Path, code: ErrorCode, message: string): Fault {
  const text = pathText(path);
  return text === '' ? { code, message } : { path: text, code, message };
}

/** "Expected seq_id to be an integer, got a list of 3 entries", with INVALID_FIELD. */
export function unexpected(path: Path, expected: string, value: unknown): Fault {
  return faultAt(path, 'INVALID_FIELD', `Expected ${fieldName(path)} to be ${expected}, got ${shown(value)}`);
}

/**
 * What zod found, as faults. The schemas give every issue a noun phrase as its message (see forms.ts); zod's own words
 * never come through.
 */
export function faultsOfIssues(issues: readonly z.core.$ZodIssue[], payload: unknown): Fault[] {
  const faults: Fault[] = [];
  const seen = new Set<string>();
  for (const issue of issues) {
    if (faults.length >= MAX_FAULTS) break;
    if (issue.code === 'unrecognized_keys') {
      faults.push(...issue.keys.slice(0, MAX_FAULTS).map((key) => unknownField(issue.path, key)));
      continue;
    }
    const { path, message } = innermost(issue);
    const fault = unexpected(path, message, valueAt(payload, path));
    const place = fault.path ?? '';
    if (!seen.has(place)) faults.push(fault);
    seen.add(place);
  }
  return faults;
}

/** Of a union that takes things of several depths (lists and objects of itself), what is wrong lies deepest. */
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

/** The value at a path, looking only at the payload's own fields. */
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

/** A value in a sentence: short, on one line, and never more than a glance of a large one. */
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
