import { InvalidArgumentError } from 'commander';
import { AgentError } from '../errors.js';
import { MAX_STATS_MS } from '../messages/requests.js';

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** The longest time that a Node timer accepts. */
const MAX_DURATION_MS = 2 ** 31 - 1;

/** Parses `60s`, `500ms` or `1.5m`; a bare number is in seconds. @returns milliseconds */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  const ms = match === null ? Number.NaN : Number(match[1]) * (UNITS[match[2] ?? 's'] ?? 0);
  if (!(ms > 0 && ms <= MAX_DURATION_MS))
    throw new InvalidArgumentError('Expected a duration such as 60s, 500ms or 2m.');
  return ms;
}

/** How long the kernel counts runs for one answer. @returns whole milliseconds, as the request takes them */
export function parseWindow(text: string): number {
  const ms = Math.round(parseDuration(text));
  if (ms < 1 || ms > MAX_STATS_MS) throw new InvalidArgumentError('Expected a duration from 1ms to 60s.');
  return ms;
}

export function parseCount(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count === 0) throw new InvalidArgumentError('Expected a whole number, at least 1.');
  return count;
}

/** A generation: a whole number; 0 means that there is none before. */
export function parseGeneration(text: string): number {
  const generation = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(generation)) throw new InvalidArgumentError('Expected a whole number up to 2^53 - 1.');
  return generation;
}

/** A time (`2026-01-31T12:00:00Z`), or a duration from now (`5m`). */
export function parseMoment(text: string): Date {
  if (/^\d{4}-\d{2}-\d{2}T.*(Z|[+-]\d{2}:\d{2})$/.test(text)) {
    const moment = new Date(text);
    if (!Number.isNaN(moment.getTime())) return moment;
  }
  try {
    return new Date(Date.now() + parseDuration(text));
  } catch {
    throw new InvalidArgumentError('Expected a time such as 2026-01-31T12:00:00Z, or a duration from now such as 5m.');
  }
}

/** Server URLs, separated by commas. */
/** A variable of the environment: true, false or absent. @throws AgentError CONFIG_INVALID for another value */
export function isSwitchedOn(variable: string): boolean {
  const text = process.env[variable] ?? '';
  if (text === 'true') return true;
  if (text === 'false' || text === '') return false;
  throw new AgentError('CONFIG_INVALID', `Expected ${variable} to be true or false, got ${JSON.stringify(text)}`);
}

export function parseServers(text: string): string[] {
  const servers = text
    .split(',')
    .map((server) => server.trim())
    .filter((server) => server !== '');
  if (servers.length === 0) throw new InvalidArgumentError('Expected at least one URL such as nats://127.0.0.1:4222.');
  return servers;
}
