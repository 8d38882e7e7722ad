import { readFileSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import { parse, YAMLParseError } from 'yaml';

/** The names of one setting in each source. */
export interface SettingNames {
  /** As a key of the file: `nats_url`. */
  readonly name: string;
  /** As a flag: `--nats-url`. */
  readonly flag: string;
  /** As a property from the option parser: `natsUrl`. */
  readonly property: string;
  /** As an environment variable: `L3AF_NATS_URL`. */
  readonly env: string;
  /** Whether the file may set it. */
  readonly inFile: boolean;
}

export type SourceKind = 'flag' | 'environment' | 'file' | 'default';

/** A setting's text from a source, and that source in words. */
export interface Given {
  readonly source: SourceKind;
  readonly text: string;
  readonly where: string;
}

/** The content of a source, by name of setting, and everything that is wrong with it, as sentences. */
export interface SourceContent {
  readonly given: ReadonlyMap<string, Given>;
  readonly problems: readonly string[];
}

const ENV_PREFIX = 'L3AF_';
/** With a larger distance, one word is not taken for a misspelling of the other. */
const LARGEST_TYPO = 2;

/** Unknown options are left to the option parser. An empty value means none, as in every source. */
export function fromFlags(flags: Readonly<Record<string, unknown>>, settings: readonly SettingNames[]): SourceContent {
  const given = settings.flatMap(({ name, flag, property }): [string, Given][] => {
    const value = flags[property];
    if (value === undefined || value === '') return [];
    return [[name, { source: 'flag', text: String(value), where: `the flag ${flag}` }]];
  });
  return { given: new Map(given), problems: [] };
}

/**
 * Only variables that look like a misspelling are rejected. A cluster sets other variables that begin with `L3AF_` for
 * every service whose name begins that way.
 */
export function fromEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  settings: readonly SettingNames[],
): SourceContent {
  const given = settings.flatMap(({ name, env: variable }): [string, Given][] => {
    const text = env[variable];
    if (text === undefined || text === '') return [];
    return [[name, { source: 'environment', text, where: `the environment (${variable})` }]];
  });
  const variables = settings.map((setting) => setting.env);
  const problems = Object.keys(env)
    .filter((variable) => variable.startsWith(ENV_PREFIX) && !variables.includes(variable))
    .flatMap((variable) => {
      const closest = nearest(variable, variables);
      return closest === undefined ? [] : [`The environment variable ${variable} is unknown; did you mean ${closest}?`];
    });
  return { given: new Map(given), problems };
}

/** A YAML mapping of names to plain values. */
export function fromFile(path: string, settings: readonly SettingNames[]): SourceContent {
  const given = new Map<string, Given>();
  const problems: string[] = [];
  let content: unknown;
  try {
    // The fail-safe schema keeps every scalar as its text: `007` stays `007`.
    content = parse(readFileSync(path, 'utf8'), { schema: 'failsafe' });
  } catch (error) {
    return { given, problems: [`The configuration file ${path} cannot be read: ${reasonOf(error)}.`] };
  }
  if (content === null || content === '') return { given, problems };
  if (!isMapping(content)) {
    return { given, problems: [`The configuration file ${path} must be a mapping of settings to values.`] };
  }
  const names = settings.filter((setting) => setting.inFile).map((setting) => setting.name);
  for (const [key, value] of Object.entries(content)) {
    if (!names.includes(key)) problems.push(...leavesOf(key, value).map((leaf) => unknownKey(leaf, path, names)));
    else if (typeof value !== 'string')
      problems.push(`Expected ${key} to be one plain value, got a list or mapping from ${path}.`);
    else if (!isAbsent(value)) given.set(key, { source: 'file', text: value, where: `the file ${path}` });
  }
  return { given, problems };
}

function unknownKey(key: string, path: string, names: readonly string[]): string {
  const closest = nearest(key, names);
  const hint = closest === undefined ? '' : `; did you mean ${closest}?`;
  return `The setting ${key} in ${path} is unknown${hint === '' ? '.' : hint}`;
}

/** The paths of the plain values below a key, so that `nats: {url: …}` is reported as `nats.url`. */
function leavesOf(path: string, value: unknown): string[] {
  if (!isMapping(value) || Object.keys(value).length === 0) return [path];
  return Object.entries(value).flatMap(([key, inner]) => leavesOf(`${path}.${key}`, inner));
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** YAML's ways to write null, which the fail-safe schema keeps as text. */
function isAbsent(text: string): boolean {
  return ['', '~', 'null'].includes(text);
}

function reasonOf(error: unknown): string {
  if (error instanceof YAMLParseError) return error.message.split('\n', 1)[0]!.replace(/:$/, '');
  const errno = error instanceof Error && 'errno' in error ? Number(error.errno) : Number.NaN;
  return getSystemErrorMap().get(errno)?.[1] ?? String(error);
}

/** The candidate that was probably meant: it differs only in separators and case, or in at most two letters. */
function nearest(word: string, candidates: readonly string[]): string | undefined {
  const [closest] = candidates
    .map((candidate) => ({ candidate, distance: editDistance(plain(word), plain(candidate)) }))
    .toSorted((a, b) => a.distance - b.distance);
  return closest !== undefined && closest.distance <= LARGEST_TYPO ? closest.candidate : undefined;
}

function plain(word: string): string {
  return word.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
}

/** Levenshtein distance: the fewest letters to insert, delete or replace. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
