import type { z } from 'zod';
import { rootContradictions } from './config/roots.js';
import { type Config, camelCase, DEFINITIONS, type Definition, SETTINGS } from './config/settings.js';
import { fromEnvironment, fromFile, fromFlags, type Given, type SourceKind } from './config/sources.js';
import { AgentError } from './errors.js';

export { type Config, SETTINGS, type Setting } from './config/settings.js';
export type { ListenAddress } from './config/values.js';

export interface ConfigInput {
  /** Options from the option parser: `{natsUrl: '…'}`. Unknown ones are ignored. */
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface EffectiveConfig {
  readonly config: Config;
  /** The origin of each setting's value, by name. A setting without a value has no entry. */
  readonly origins: ReadonlyMap<string, Given>;
}

/**
 * Combines the settings. A flag overrides the environment, the environment overrides the file, and the file overrides
 * the default.
 *
 * @throws AgentError CONFIG_INVALID with a sentence for each thing that is wrong
 */
export function loadConfig(input: ConfigInput): EffectiveConfig {
  const flags = fromFlags(input.flags ?? {}, SETTINGS);
  const environment = fromEnvironment(input.env ?? {}, SETTINGS);
  const path = (flags.given.get('config') ?? environment.given.get('config'))?.text;
  const sources = [flags, environment, ...(path === undefined ? [] : [fromFile(path, SETTINGS)])];

  const problems = sources.flatMap((source) => source.problems);
  const origins = new Map<string, Given>();
  const values: Record<string, unknown> = {};
  for (const [name, definition] of DEFINITIONS) {
    const given = sources.map((source) => source.given.get(name)).find((found) => found !== undefined);
    const origin = given ?? defaultOf(definition);
    if (origin !== undefined) origins.set(name, origin);
    const parsed = definition.schema.safeParse(origin?.text);
    if (parsed.success) values[camelCase(name)] = parsed.data;
    else if (origin !== undefined) problems.push(wrongValue(name, definition, origin, parsed.error));
  }
  problems.push(...contradictions(origins));
  problems.push(...rootContradictions((name) => (origins.get(name)?.source ?? 'default') !== 'default'));
  if (problems.length > 0) throw invalid(problems);
  return { config: values as Config, origins };
}

function defaultOf({ default: text }: Definition): Given | undefined {
  if (text === undefined) return undefined;
  return { source: 'default', text: typeof text === 'string' ? text : text(), where: 'the default' };
}

function wrongValue(name: string, { redact }: Definition, { text, where }: Given, error: z.ZodError): string {
  const expected = error.issues.map((issue) => issue.message).join(' and ');
  return `Expected ${name} to be ${expected}; got ${JSON.stringify(redact?.(text) ?? text)} from ${where}.`;
}

/** Ways to authenticate. A server takes one. */
const AUTHENTICATION = ['nats_creds', 'nats_nkey', 'nats_user_file', 'nats_token_file'];
const TLS = ['nats_tls_ca', 'nats_tls_cert', 'nats_tls_key', 'nats_tls_handshake_first'];

/** Settings that contradict each other. */
function contradictions(origins: ReadonlyMap<string, Given>): string[] {
  const problems: string[] = [];
  const given = (names: readonly string[]) =>
    names.filter((name) => (origins.get(name)?.source ?? 'default') !== 'default');
  if (!origins.has('nats_url')) {
    for (const name of given([...AUTHENTICATION, 'nats_password_file', ...TLS])) {
      problems.push(`${name} is set but nats_url is not; the embedded server does not use credentials.`);
    }
  }
  const ways = given(AUTHENTICATION);
  if (ways.length > 1) {
    const count = ways.length === 2 ? 'both set; remove one' : 'all set; keep one';
    problems.push(`${ways.slice(0, -1).join(', ')} and ${ways.at(-1)} are ${count}.`);
  }
  if (origins.has('nats_user_file') !== origins.has('nats_password_file')) {
    problems.push('nats_user_file and nats_password_file only work together; set both or neither.');
  }
  const policy = origins.get('signature_policy')?.text.trim();
  if ((policy === 'if-present' || policy === 'required') && !origins.has('trusted_keys')) {
    problems.push(`signature_policy is ${policy} but trusted_keys is not set; no signature could be valid.`);
  }
  if (origins.has('nats_tls_cert') !== origins.has('nats_tls_key')) {
    problems.push('nats_tls_cert and nats_tls_key only work together; set both or neither.');
  }
  return problems;
}

function invalid(problems: readonly string[]): AgentError {
  const message =
    problems.length === 1
      ? problems[0]!
      : [`The configuration has ${problems.length} errors:`, ...problems].join('\n  ');
  return new AgentError('CONFIG_INVALID', message);
}

export interface DescribedSetting {
  readonly setting: string;
  /** As text, without secrets; null if none is set. */
  readonly value: string | null;
  readonly source: SourceKind;
}

/** Every setting with its value and origin, without secrets. */
export function describeConfig({ config, origins }: EffectiveConfig): DescribedSetting[] {
  return DEFINITIONS.map(([name, { redact }]) => {
    const origin = origins.get(name);
    if (origin === undefined || origin.text === '') return { setting: name, value: null, source: 'default' };
    const effective = config[camelCase(name) as keyof Config];
    const text = typeof effective === 'string' ? effective : origin.text;
    return { setting: name, value: redact?.(text) ?? text, source: origin.source };
  });
}
