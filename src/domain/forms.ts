import * as z from 'zod';
import { isObject } from './json.js';

/*
 * The basic fields of payloads. The `error` of every schema here is a noun phrase that completes "Expected <field> to
 * be …". It is the only text that messages/faults.ts takes from zod.
 */

/** A required text. `form` is the source of a regular expression for the whole text. */
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

/** Like `z.int()`. But after a failure of `z.int()`, zod skips the rules of the enclosing schemas. */
export function integer(min: number, max: number, expected = `an integer from ${min} to ${max}`) {
  return z
    .number({ error: expected })
    .refine(Number.isSafeInteger, { error: expected })
    .min(min, { error: expected })
    .max(max, { error: expected })
    .meta({ type: 'integer' });
}

export const optionalInteger = integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 'an integer').nullish();
export const optionalBoolean = z.boolean({ error: 'true or false' }).nullish();

/**
 * A list whose items are not checked if it is too long, so that bad input is never slow. zod's own `max` does this too,
 * but then skips the rules of the enclosing schemas. Here it only serves the generated schemas.
 */
export function list<T extends z.ZodType>(item: T, max: number, expected: string) {
  return z.preprocess(
    (given, context) => {
      const isTooLong = Array.isArray(given) && given.length > max;
      if (isTooLong) context.addIssue({ code: 'custom', message: expected, continue: true });
      return given;
    },
    z.array(item, { error: expected }).max(max, { error: expected }),
  );
}

/** A list that may be absent or null. */
export function optionalList<T extends z.ZodType>(item: T, max: number, what: string) {
  return list(item, max, `a list of at most ${max} ${what}`).nullish();
}

/** One path segment that cannot be hidden or relative, or be mistaken for an option. */
const FILE_NAME = '(?=.{1,255}$)[A-Za-z0-9_][A-Za-z0-9._+~-]*';

/** bpffs refuses dots in names (kernel/bpf/inode.c, bpf_lookup). */
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
const OPTION_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const OPTION_NAMES = 'names of 1 to 64 letters, digits, ".", "_" and "-" that begin with a letter or digit';

/** An argument ends at its first NUL (execve(2)). */
const commandOption = z.union([z.number(), z.string().regex(/^[^\0]{0,4096}$/, { error: OPTION_EXPECTED })], {
  error: OPTION_EXPECTED,
});

/**
 * Options for a command, `--name=value`. The names are checked before zod reads the record, because zod leaves out
 * `__proto__`. After this kind of issue, and no other, zod still checks the values.
 */
function optionsBut(reserved: ReadonlySet<string>) {
  return z
    .preprocess(
      (given, context) => {
        const names = isObject(given) ? Object.keys(given) : [];
        const keys = names.filter((name) => !OPTION_NAME.test(name));
        if (keys.length > 0) context.addIssue({ code: 'unrecognized_keys', keys, names: OPTION_NAMES });
        for (const name of names.filter((one) => reserved.has(one)))
          context.addIssue({ code: 'custom', path: [name], message: OWN_OPTION, params: { code: 'INVALID_FIELD' } });
        return given;
      },
      z
        .record(z.string(), commandOption, { error: OPTIONS_EXPECTED })
        .refine((options) => Object.keys(options).length <= 64, { error: OPTIONS_EXPECTED }),
    )
    .nullish();
}

/** For a command that gets no options of the agent's own. */
export const commandOptions = optionsBut(new Set());

/** The options by which the agent tells a companion where it belongs. Of two with one name, most programs take the last. */
const OWN_OPTIONS = ['iface', 'cgroup', 'direction', 'version', 'map-name', 'log-dir', 'rules-file', 'cmd'] as const;
const OWN_OPTION = `The agent gives this option itself, as it does ${OWN_OPTIONS.slice(0, -1).join(', ')} and ${OWN_OPTIONS.at(-1)}; leave it out, or call it otherwise`;

/** For a command that gets options of the agent's own, which a payload must not override. */
export const furtherOptions = optionsBut(new Set<string>(OWN_OPTIONS));

export const functionName = optionalText('[A-Za-z_][A-Za-z0-9_]{0,126}', 'the name of a C function');

const MAP_NAME = '[A-Za-z_][A-Za-z0-9_.]{0,62}';
const MAP_NAME_EXPECTED = 'the bare name of a map (1 to 63 letters, digits, "_" and "."), not a path';

export const mapName = text(MAP_NAME, MAP_NAME_EXPECTED);
export const optionalMapName = optionalText(MAP_NAME, MAP_NAME_EXPECTED);

export const fieldPath = optionalText(
  '[A-Za-z0-9_]{1,127}(?:\\.[A-Za-z0-9_]{1,127}){0,7}',
  'names of fields and indices, joined by "."',
);

/** The labels that series of monitored maps always have, and `job` and `instance`, which Prometheus adds. */
const TAKEN_LABELS = [
  ...['host', 'ebpf_program', 'direction', 'interface_name', 'ipv4_address', 'map_name'],
  ...['map', 'key', 'aggregator', 'job', 'instance'],
];
const LABELS_EXPECTED = `an object of at most 8 texts of 1 to 128 printable characters, by names of letters, digits and "_" that begin with a letter and are none of ${TAKEN_LABELS.join(', ')}`;

/** Label names as Prometheus accepts them, without those that begin with "_". */
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

export const repositoryUrl = optionalText(
  '(?:(?:https?|file)://[!-~]{1,2000}|nats://[A-Za-z0-9_-]{0,200})',
  'an http, https or file URL without blanks, or nats://<bucket>',
).refine((url) => url === undefined || url === null || url === '' || URL.canParse(url), {
  error: 'a URL that parses, or ""',
});

/** Free text that is not interpreted. */
export const freeText = optionalText(
  '[^\\u0000-\\u001f\\u007f]{1,4096}',
  'text of at most 4096 characters without control characters',
);
