import { DiscardPolicy, nanos, RetentionPolicy, StorageType, type StreamConfig } from 'nats';
import { STREAMS, type Subjects } from '../messages/subjects.js';

/** A stream as the agent creates it, and the settings that a stream created by others must have. */
export interface StreamSpec {
  readonly config: Partial<StreamConfig> & Pick<StreamConfig, 'name' | 'subjects'>;
  readonly requirements: readonly Requirement[];
}

export interface Requirement {
  readonly setting: keyof StreamConfig;
  /** In words, for the error message. */
  readonly wanted: string;
  fits(config: StreamConfig): boolean;
}

const SECOND_MS = 1_000;
const DAY_MS = 24 * 3600 * SECOND_MS;
/** Controllers and outboxes repeat a message until it is confirmed, perhaps on the next day. */
const DEDUPE_MS = DAY_MS;
const EVENTS_AGE_MS = 7 * DAY_MS;
const HOSTS_TTL_MS = 60 * SECOND_MS;
/** Fixed at creation, one consumer per host: enough for any fleet. Left out where the account does not grant it. */
const MAX_CONSUMERS = 100_000;

export function streamSpecs(subjects: Subjects): readonly StreamSpec[] {
  return [
    commandStream([subjects.commandsAll]),
    ackStream([subjects.acksAll]),
    eventStream([subjects.eventsAll, subjects.deadLettersAll, ADVISORIES]),
    bucket(STREAMS.state),
    bucket(STREAMS.hosts, HOSTS_TTL_MS),
  ];
}

/** What the server reports about consumers of the command stream: deliveries given up, messages terminated. */
const ADVISORIES = `$JS.EVENT.ADVISORY.CONSUMER.*.${STREAMS.commands}.>`;

function commandStream(subjects: string[]): StreamSpec {
  return {
    config: {
      ...limitsOnDisk(STREAMS.commands, subjects),
      discard: DiscardPolicy.New,
      duplicate_window: nanos(DEDUPE_MS),
      max_consumers: MAX_CONSUMERS,
    },
    requirements: [
      ...baseRequirements(subjects),
      // If the server discarded anything else, commands would silently never run.
      equal('discard', DiscardPolicy.New),
      { setting: 'max_age', wanted: '0 (no limit)', fits: ({ max_age }) => !max_age },
      {
        setting: 'max_msgs_per_subject',
        wanted: '-1 (no limit)',
        fits: ({ max_msgs_per_subject: limit }) => !(limit > 0),
      },
      dedupe(),
    ],
  };
}

function ackStream(subjects: string[]): StreamSpec {
  return {
    config: { ...limitsOnDisk(STREAMS.acks, subjects), discard: DiscardPolicy.Old, duplicate_window: nanos(DEDUPE_MS) },
    requirements: [...baseRequirements(subjects), dedupe()],
  };
}

function eventStream(subjects: string[]): StreamSpec {
  return {
    config: { ...limitsOnDisk(STREAMS.events, subjects), discard: DiscardPolicy.Old, max_age: nanos(EVENTS_AGE_MS) },
    requirements: baseRequirements(subjects),
  };
}

/**
 * The settings of a key-value bucket. The clients' own function is not used: it allows rollup headers, with which a
 * host that may only write its own key could erase all others.
 */
function bucket(name: string, ttlMs?: number): StreamSpec {
  const subjects = [`$KV.${name}.>`];
  const lives: Requirement = { setting: 'max_age', wanted: 'a time to live', fits: ({ max_age }) => max_age > 0 };
  return {
    config: {
      ...limitsOnDisk(`KV_${name}`, subjects),
      max_msgs_per_subject: 1,
      discard: DiscardPolicy.New,
      allow_rollup_hdrs: false,
      deny_delete: true,
      ...(ttlMs !== undefined && { max_age: nanos(ttlMs) }),
    },
    requirements: [
      ...baseRequirements(subjects),
      { setting: 'allow_rollup_hdrs', wanted: 'false', fits: ({ allow_rollup_hdrs }) => allow_rollup_hdrs !== true },
      ...(ttlMs === undefined ? [] : [lives]),
    ],
  };
}

function limitsOnDisk(name: string, subjects: string[]): StreamSpec['config'] {
  return { name, subjects, retention: RetentionPolicy.Limits, storage: StorageType.File, allow_direct: true };
}

function baseRequirements(subjects: readonly string[]): Requirement[] {
  return [
    {
      setting: 'subjects',
      wanted: `them to cover ${JSON.stringify(subjects)}`,
      fits: (config) =>
        subjects.every((subject) => (config.subjects ?? []).some((pattern) => coversSubject(pattern, subject))),
    },
    equal('retention', RetentionPolicy.Limits),
    equal('storage', StorageType.File),
    equal('allow_direct', true),
  ];
}

function equal(setting: keyof StreamConfig, value: string | boolean): Requirement {
  return { setting, wanted: JSON.stringify(value), fits: (config) => config[setting] === value };
}

function dedupe(): Requirement {
  return {
    setting: 'duplicate_window',
    wanted: `at least ${nanos(DEDUPE_MS)} ns (a day)`,
    fits: ({ duplicate_window: window }) => window >= nanos(DEDUPE_MS),
  };
}

export function millisOf(nanoseconds: number): number {
  return nanoseconds / 1e6;
}

/** Whether every subject that matches `subject` (which may itself have wildcards) also matches `pattern`. */
export function coversSubject(pattern: string, subject: string): boolean {
  const wide = pattern.split('.');
  const narrow = subject.split('.');
  for (const [index, token] of wide.entries()) {
    const other = narrow[index];
    if (other === undefined) return false;
    if (token === '>') return true;
    if (other === '>') return false;
    if (token !== '*' && token !== other) return false;
  }
  return wide.length === narrow.length;
}
