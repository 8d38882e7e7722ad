import { InvalidArgumentError } from 'commander';
import { MAX_STATS_MS } from '../messages/requests.js';

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** The longest that a Node timer takes. */
const MAX_DURATION_MS = 2 ** 31 - 1;

/** `60s`, `500ms`, `1.5m`; a bare number is seconds. In milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  const ms = match === null ? Number.NaN : Number(match[1]) * (UNITS[match[2] ?? 's'] ?? 0);
  if (!(ms > 0 && ms <= MAX_DURATION_MS)) throw new InvalidArgumentError('Expected a duration as 60s, 500ms or 2m.');
  return ms;
}

/** How long runs are counted for one answer. In milliseconds, as the request takes it. */
export function parseWindow(text: string): number {
  const ms = Math.round(parseDuration(text));
  if (ms < 1 || ms > MAX_STATS_MS) throw new InvalidArgumentError('Expected a duration from 1ms to 60s.');
  return ms;
}

export function parseCount(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count === 0) throw new InvalidArgumentError('Expected a whole number from 1.');
  return count;
}

/** A generation: a whole number, 0 for none before. */
export function parseGeneration(text: string): number {
  const generation = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(generation)) throw new InvalidArgumentError('Expected a whole number up to 2^53 - 1.');
  return generation;
}

/** A moment (`2026-01-31T12:00:00Z`), or a duration from now (`5m`). */
export function parseMoment(text: string): Date {
  if (/^\d{4}-\d{2}-\d{2}T.*(Z|[+-]\d{2}:\d{2})$/.test(text)) {
    const moment = new Date(text);
    if (!Number.isNaN(moment.getTime())) return moment;
  }
  try {
    return new Date(Date.now() + parseDuration(text));
  } catch {
    throw new InvalidArgumentError('Expected a time as 2026-01-31T12:00:00Z, or a duration from now as 5m.');
  }
}

/** Servers, joined by commas. */
export function parseServers(text: string): string[] {
  const servers = text
    .split(',')
    .map((server) => server.trim())
    .filter((server) => server !== '');
  if (servers.length === 0) throw new InvalidArgumentError('Expected at least one URL as nats://127.0.0.1:4222.');
  return servers;
}
