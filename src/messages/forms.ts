import { z } from 'zod';
import { RESERVED_IFACE_NAMES } from '../domain/pins.js';

/*
 * The leaves of payloads. The `error` of every schema here is a noun phrase that completes "Expected <field> to be …":
 * it is all that faults.ts takes from zod.
 */

/** A text that has to be there. `form` is the source of a regular expression for the whole text. */
export function text(form: string, expected: string) {
  return z.string({ error: expected }).regex(new RegExp(`^(?:${form})$`), { error: expected });
}

/** A text that may be absent, null or '' (Go's zero value, which l3afd's own serializer writes). */
export function optionalText(form: string, expected: string) {
  const orEmpty = `${expected}, or ""`;
  return z
    .string({ error: orEmpty })
    .regex(new RegExp(`^(?:${form})?$`), { error: orEmpty })
    .nullish();
}

export function integer(min: number, max: number, expected = `an integer from ${min} to ${max}`) {
  return z.int({ error: expected }).min(min, { error: expected }).max(max, { error: expected });
}

export const optionalInteger = integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 'an integer').nullish();
export const optionalBoolean = z.boolean({ error: 'true or false' }).nullish();

/** A list that may be absent or null. */
export function optionalList<T extends z.ZodType>(item: T, max: number, what: string) {
  const expected = `a list of at most ${max} ${what}`;
  return z.array(item, { error: expected }).max(max, { error: expected }).nullish();
}

/** One path segment that cannot be hidden, relative, or taken for an option. */
const FILE_NAME = '(?=.{1,255}$)[A-Za-z0-9_][A-Za-z0-9._+~-]*';

/** Dots are not allowed because bpffs refuses them in names (kernel/bpf/inode.c, bpf_lookup). */
export const programName = text(
  '(?!(?:xdp|tc)-root$)[A-Za-z0-9][A-Za-z0-9_-]{0,62}',
  'a name of 1 to 63 letters, digits, "_" and "-" that starts with a letter or digit and is not a root\'s',
);

export const versionText = text(
  '(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,62}',
  'a version of 1 to 63 letters, digits, ".", "_" and "-" without ".."',
);

export const artifactName = text(
  `(?=.*\\.(?:tar\\.gz|tgz|zip)$)${FILE_NAME}`,
  'a plain file name that ends in .tar.gz, .tgz or .zip',
);

export const objectFileName = optionalText(FILE_NAME, 'the plain file name of an object file');

export const commandName = optionalText(FILE_NAME, 'the plain file name of a command in the package');

export const rulesFileName = optionalText(FILE_NAME, 'a plain file name');

const OPTION_EXPECTED = 'a number, or a text of at most 4096 characters without NUL';
const OPTIONS_EXPECTED = `an object of at most 64 options, each ${OPTION_EXPECTED}`;

/** Options for a command, `--name=value`; their names are looked at in checks.ts. An argument ends at its first NUL (execve(2)). */
export const commandOptions = z
  .record(
    z.string(),
    z.union([z.number(), z.string().regex(/^[^\0]{0,4096}$/, { error: OPTION_EXPECTED })], { error: OPTION_EXPECTED }),
    { error: OPTIONS_EXPECTED },
  )
  .refine((options) => Object.keys(options).length <= 64, { error: OPTIONS_EXPECTED })
  .nullish();

export const functionName = optionalText('[A-Za-z_][A-Za-z0-9_]{0,126}', 'the name of a C function');

const MAP_NAME = '[A-Za-z_][A-Za-z0-9_.]{0,62}';
const MAP_NAME_EXPECTED = 'the bare name of a map (1 to 63 letters, digits, "_" and "."), not a path';

export const mapName = text(MAP_NAME, MAP_NAME_EXPECTED);
export const optionalMapName = optionalText(MAP_NAME, MAP_NAME_EXPECTED);

export const fieldPath = optionalText(
  '[A-Za-z0-9_]{1,127}(?:\\.[A-Za-z0-9_]{1,127}){0,7}',
  'names of fields and indices, joined by "."',
);

/** The labels that series of monitored maps have anyhow, and `job` and `instance`, which Prometheus adds. */
const TAKEN_LABELS = [
  ...['host', 'ebpf_program', 'direction', 'interface_name', 'ipv4_address', 'map_name'],
  ...['map', 'key', 'aggregator', 'job', 'instance'],
];
const LABELS_EXPECTED = `an object of at most 8 texts of 1 to 128 printable characters, by names of letters, digits and "_" that begin with a letter and are none of ${TAKEN_LABELS.join(', ')}`;

/** Names as Prometheus takes them, without those that begin with "_". */
export const monitorLabels = z
  .record(z.string(), z.string().regex(/^[ -~]{1,128}$/, { error: LABELS_EXPECTED }), { error: LABELS_EXPECTED })
  .refine(
    (labels) => {
      const names = Object.keys(labels);
      const areNames = names.every((name) => /^[A-Za-z][A-Za-z0-9_]{0,62}$/.test(name) && !TAKEN_LABELS.includes(name));
      return names.length <= 8 && areNames;
    },
    { error: LABELS_EXPECTED },
  )
  .nullish();

/**
 * At most 15 bytes, no blank, "/" or ":", not "." or ".." (net/core/dev.c, dev_valid_name), and narrower than the
 * kernel: ASCII only. Reserved are names that collide with the layout of bpffs.
 */
export const ifaceName = text(
  `(?!(?:\\.{1,2}|${RESERVED_IFACE_NAMES.join('|')})$)[!-.0-9;-~]{1,15}`,
  'an interface name of 1 to 15 printable ASCII characters without blanks, "/" and ":", ' +
    `other than ${RESERVED_IFACE_NAMES.map((name) => `"${name}"`).join(', ')}`,
);

export const ipv4Address = optionalText(
  '(?:(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)(?:\\.(?!$)|$)){4}',
  'an IPv4 address in dotted decimal',
);

export const repositoryUrl = optionalText(
  '(?:(?:https?|file)://[!-~]{1,2000}|nats://[A-Za-z0-9_-]{0,200})',
  'an http, https or file URL without blanks, or nats://<bucket>',
).refine((url) => url === undefined || url === null || url === '' || URL.canParse(url), {
  error: 'a URL that parses, or ""',
});

/** Free text: for people or for what is not interpreted yet. */
export const freeText = optionalText(
  '[^\\u0000-\\u001f\\u007f]{1,4096}',
  'text of at most 4096 characters without control characters',
);
