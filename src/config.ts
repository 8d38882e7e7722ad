import type { z } from 'zod';
import { rootContradictions } from './config/roots.js';
import { type Config, camelCase, DEFINITIONS, type Definition, SETTINGS } from './config/settings.js';
import { fromEnvironment, fromFile, fromFlags, type Given, type SourceKind } from './config/sources.js';
import { AgentError } from './errors.js';

export { type Config, SETTINGS, type Setting } from './config/settings.js';
export type { ListenAddress } from './config/values.js';

export interface ConfigInput {
  /** Options as the option parser hands them over: `{natsUrl: '…'}`; further ones are ignored. */
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface EffectiveConfig {
  readonly config: Config;
  /** Where each setting has its value from, by name; no entry for a setting without a value. */
  readonly origins: ReadonlyMap<string, Given>;
}

/**
 * Puts the settings together: a flag wins over the environment, that over the file, that over the default.
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

/** Settings that do not go together. */
function contradictions(origins: ReadonlyMap<string, Given>): string[] {
  const problems: string[] = [];
  const authentication = ['nats_creds', 'nats_nkey', 'nats_tls_ca', 'nats_tls_cert', 'nats_tls_key'];
  if (!origins.has('nats_url')) {
    for (const name of authentication.filter((other) => origins.has(other))) {
      problems.push(`${name} is set but nats_url is not; the embedded server takes no credentials.`);
    }
  }
  if (origins.has('nats_creds') && origins.has('nats_nkey')) {
    problems.push('nats_creds and nats_nkey are both set; take one away.');
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
  /** As text, without secrets; null where none is set. */
  readonly value: string | null;
  readonly source: SourceKind;
}

/** Every setting with its value and where it comes from, fit to be shown to anyone. */
export function describeConfig({ config, origins }: EffectiveConfig): DescribedSetting[] {
  return DEFINITIONS.map(([name, { redact }]) => {
    const origin = origins.get(name);
    if (origin === undefined || origin.text === '') return { setting: name, value: null, source: 'default' };
    const effective = config[camelCase(name) as keyof Config];
    const text = typeof effective === 'string' ? effective : origin.text;
    return { setting: name, value: redact?.(text) ?? text, source: origin.source };
  });
}
