import { resolve } from 'node:path';
import * as z from 'zod';

/*
 * The permitted texts of settings and the values that they become. All three sources provide text: flags and
 * environment have nothing else, and the file is read so that every scalar stays as written.
 */

export interface ListenAddress {
  /** A name or an address; IPv6 without brackets. */
  readonly host: string;
  /** 0 for a free port. */
  readonly port: number;
}

const SEED = /^S[UAOCXN][A-Z2-7]{50,}$/;
const PEM = '-----BEGIN ';
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/;
const MILLISECONDS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
const SHORTEST_MS = 100;
const LONGEST_MS = 24 * MILLISECONDS.h;
/** Node's client does not use WebSockets. */
const NATS_SCHEMES = ['nats:', 'tls:'];
const REPOSITORY_SCHEMES = ['http:', 'https:', 'file:', 'nats:'];
/** Tokens of letters, digits, `_` and `-`, joined by dots: part of a subject without wildcards. */
const SUBJECT = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
/** The same, with an optional `$` as in the server's own subjects (`$JS.API`). */
const SYSTEM_SUBJECT = /^\$?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const HOST_TOKEN = /^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$/;
/** The token in place of the host in requests to every host. */
const EVERY_HOST = 'all';
const HOST_NAME_MAX = 253;

/** Converts the text with `parse`. If that returns undefined, there is an issue that says what was expected. */
function expecting<T>(expected: string, parse: (text: string) => T | undefined) {
  return z.string().transform((text, context) => {
    const value = parse(text.trim());
    if (value !== undefined) return value;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
}

function matching(expected: string, accepts: (text: string) => boolean) {
  return expecting(expected, (text) => (accepts(text) ? text : undefined));
}

export function oneOf<const T extends readonly [string, ...string[]]>(...words: T) {
  return expecting(`one of ${words.join(', ')}`, (text): T[number] | undefined => words.find((word) => word === text));
}

export const yesOrNo = expecting('true or false', (text) => {
  if (['true', 'yes', 'on', '1'].includes(text)) return true;
  return ['false', 'no', 'off', '0'].includes(text) ? false : undefined;
});

/** Milliseconds. */
export const duration = expecting(
  'a duration between 100ms and 24h, such as 500ms, 10s, 5m or plain seconds',
  (text) => {
    const [, amount, unit = 's'] = DURATION.exec(text) ?? [];
    if (amount === undefined) return undefined;
    const milliseconds = Math.round(Number(amount) * MILLISECONDS[unit as keyof typeof MILLISECONDS]);
    return milliseconds >= SHORTEST_MS && milliseconds <= LONGEST_MS ? milliseconds : undefined;
  },
);

const SIZE = /^(\d{1,15})(KiB|MiB|GiB)?$/;
const BYTES = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const;

/** Bytes. */
export const size = expecting('a number of bytes, such as 67108864, 64MiB or 2GiB', (text) => {
  const [, amount, unit] = SIZE.exec(text) ?? [];
  return amount === undefined
    ? undefined
    : Number(amount) * (unit === undefined ? 1 : BYTES[unit as keyof typeof BYTES]);
});

const numberFrom = (least: number, most: number) =>
  expecting(`a whole number from ${least} to ${most}`, (text) => {
    const number = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
    return number >= least && number <= most ? number : undefined;
  });

export const count = numberFrom(0, 1000);

/** How many samples of each number are kept. A rate needs two. */
export const windowSize = numberFrom(2, 1000);

/** An absolute path. Relative paths start at the working directory. */
export const path = expecting('a path', (text) => (text.includes('\0') ? undefined : resolve(text)));

/** The path of a file with a secret. The secret itself is rejected, since it would be visible in process lists. */
export const secretFile = expecting('the path of a file, not its content', (text) =>
  holdsSecret(text) || text.includes('\0') ? undefined : resolve(text),
);

/** The client does not read a user or password from an address: it would connect without them, or to another port. */
export const servers = expecting(
  'one or more NATS addresses such as nats://broker.example:4222, separated by commas, without user and password',
  (text) => {
    const addresses = text.split(',').map((address) => address.trim());
    return addresses.every(isServer) ? addresses : undefined;
  },
);

function isServer(address: string): boolean {
  if (!hasScheme(address, NATS_SCHEMES)) return false;
  const { hostname, username, password } = new URL(address);
  return hostname !== '' && username === '' && password === '';
}

export const repository = matching('an address that begins with http://, https://, file:// or nats://', (text) =>
  hasScheme(text, REPOSITORY_SCHEMES),
);

/** Public keys, and absolute paths of files that contain some. */
export const trustedKeys = expecting(
  'ed25519 public keys in base64, or paths of files that contain them, separated by commas',
  (text) => {
    const entries = text.split(',').map((entry) => entry.trim());
    if (entries.some((entry) => entry === '' || entry.includes('\0') || holdsSecret(entry))) return undefined;
    return entries.map((entry) => (/^[A-Za-z0-9+/]{43}=$/.test(entry) ? entry : resolve(entry)));
  },
);

export const subjectPrefix = matching('letters, digits, "_" and "-", in tokens joined by dots', (text) =>
  SUBJECT.test(text),
);

export const systemSubjectPrefix = matching(
  'a subject without wildcards and without a dot at its end, such as $JS.API or _INBOX.web1',
  (text) => SYSTEM_SUBJECT.test(text),
);

export const hostId = matching(
  `lower-case letters, digits, "-" and "_", but not "${EVERY_HOST}"`,
  (text) => HOST_TOKEN.test(text) && text !== EVERY_HOST,
);

/** The name of a folder of a package repository. Payloads use the same form for names and versions. */
export const segment = matching(
  'letters, digits, ".", "_" and "-", without ".."',
  (text) => /^[A-Za-z0-9][\w.-]{0,62}$/.test(text) && !text.includes('..'),
);

/** The name of a file within a package. */
export const fileName = matching('the plain name of a file', (text) => /^\w[\w.+~-]{0,254}$/.test(text));

export const artifact = matching('a plain file name that ends in .tar.gz, .tgz or .zip', (text) =>
  /^\w[\w.+~-]{0,240}\.(tar\.gz|tgz|zip)$/.test(text),
);

/** The name of a function or a map in an object file. */
export const symbol = matching('a name that is valid in C', (text) => /^[A-Za-z_]\w{0,62}$/.test(text));

/** A directory's name in package paths. */
export const platform = matching('letters, digits, ".", "_" and "-"', (text) => /^[A-Za-z0-9][\w.-]*$/.test(text));

/** Whether it can be part of a subject without an explicit host id is checked where the subjects are made. */
export const hostName = matching(
  `a name of at most ${HOST_NAME_MAX} characters without blanks`,
  (text) => text.length <= HOST_NAME_MAX && /^[\x21-\x7e]+$/.test(text),
);

export const labels = expecting('name=value pairs separated by commas', (text) => {
  const pairs = text === '' ? [] : text.split(',').map((pair) => pair.trim());
  if (!pairs.every((pair) => /^[A-Za-z0-9][\w./-]{0,62}=[\w./-]{0,63}$/.test(pair))) return undefined;
  return Object.fromEntries(pairs.map((pair) => pair.split('=', 2) as [string, string]));
});

export const listenAddress = expecting(
  'an address and a port such as 127.0.0.1:8898 or [::1]:8898, or off',
  (text): ListenAddress | 'off' | undefined => {
    if (text === 'off') return 'off';
    const match = /^(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text);
    if (match === null) return undefined;
    const host = match[1] ?? match[2];
    const port = Number(match[3]);
    return host !== undefined && port <= 65_535 ? { host, port } : undefined;
  },
);

function hasScheme(text: string, schemes: readonly string[]): boolean {
  return URL.canParse(text) && schemes.includes(new URL(text).protocol);
}

function holdsSecret(text: string): boolean {
  return SEED.test(text) || text.includes(PEM);
}

/**
 * URLs, joined by commas, without their secrets: passwords, a token in place of the user, and queries. If the text is
 * not a proper URL, it hides too much rather than too little.
 */
export function redactUrls(text: string): string {
  const urls = text.split(',').map((url) => url.trim());
  const whole = urls.every((url) => URL.canParse(url) && url.includes('://'))
    ? urls.map((url) => url.replace(/\/\/([^/?#]*)@/, (_, user: string) => `//${redactUser(user)}@`)).join(',')
    : text.replace(/^(\s*\w+:\/\/)?.*@/s, '$1***@');
  return whole.replaceAll(/[?#][^,]*/g, '?***');
}

function redactUser(user: string): string {
  const colon = user.indexOf(':');
  return colon === -1 ? '***' : `${user.slice(0, colon)}:***`;
}

/** Returns a path unchanged. A secret that was given instead of a path is hidden completely. */
export function redactSecret(text: string): string {
  return holdsSecret(text.trim()) ? '***' : text;
}
