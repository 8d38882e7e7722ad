import { z } from 'zod';
import { AGGREGATORS } from '../domain/aggregate.js';
import type { DesiredState } from '../domain/desired.js';
import { DIRECTIONS } from '../domain/hook.js';
import type { Companion, MapValue, Program } from '../domain/program.js';
import type { CommandKey, CommandRecord, Finish, JournalRecord, OutboxEntry, Snapshot, StreamMark } from './records.js';

/**
 * What a journal's lines must look like. Fields that are not named here are kept as they are: a program that has gained an
 * optional field must come back whole. A new required field, or another meaning of an old one, wants a new version.
 */
const mapValue: z.ZodType<MapValue> = z.union([
  z.number(),
  z.string(),
  z.boolean(),
  z.lazy(() => z.array(mapValue)),
  z.lazy(() => z.record(z.string(), mapValue)),
]);

const options = z.record(z.string(), z.string());

const companion: z.ZodType<Companion> = z.looseObject({
  cmdStart: z.string(),
  startArgs: options,
  daemon: z.boolean(),
  cmdStop: z.string(),
  stopArgs: options,
  cmdStatus: z.string(),
  statusArgs: options,
  cmdUpdate: z.string(),
  updateArgs: options,
  cmdConfig: z.string(),
  configArgs: options,
  cpuSeconds: z.int(),
  memoryBytes: z.int(),
  rulesFile: z.string(),
  rules: z.string(),
});

const monitored = z.looseObject({
  name: z.string(),
  key: mapValue,
  aggregator: z.enum(AGGREGATORS),
  field: z.string(),
  labels: options,
});

const program: z.ZodType<Program> = z.looseObject({
  name: z.string(),
  version: z.string(),
  seqId: z.number(),
  artifact: z.string(),
  repoUrl: z.string(),
  sha256: z.string().exactOptional(),
  objectFile: z.string(),
  entryFunction: z.string(),
  mapName: z.string(),
  enabled: z.boolean(),
  carryMaps: z.array(z.string()),
  companion: companion.exactOptional(),
  mapArgs: z.array(
    z.looseObject({ name: z.string(), args: z.array(z.looseObject({ key: mapValue, value: mapValue })) }),
  ),
  monitors: z.array(monitored).exactOptional(),
  path: z.string(),
  payload: z.custom<Readonly<Record<string, unknown>>>(isObject, 'expected an object'),
});

const desired: z.ZodType<DesiredState> = z.looseObject({
  chains: z.array(
    z.looseObject({
      hook: z.looseObject({ iface: z.string(), direction: z.enum(DIRECTIONS) }),
      programs: z.array(program).min(1),
    }),
  ),
  addresses: z.record(z.string(), z.string()),
  probes: z.array(program).exactOptional(),
});

const key: z.ZodType<CommandKey> = z.looseObject({
  id: z.string(),
  idIsSequence: z.boolean(),
  seq: z.int(),
  storedAt: z.string(),
  streamCreated: z.string(),
});

const outboxEntry: z.ZodType<OutboxEntry> = z.looseObject({
  id: z.string(),
  subject: z.string(),
  headers: z.record(z.string(), z.string()),
  body: z.string(),
});

const command: z.ZodType<CommandRecord> = z.looseObject({
  key,
  verb: z.string(),
  attempts: z.int(),
  status: z.string().exactOptional(),
  acknowledged: z.boolean(),
  answer: outboxEntry.exactOptional(),
});

const finish: z.ZodType<Finish> = z.looseObject({
  key,
  verb: z.string(),
  status: z.string(),
  desired: desired.exactOptional(),
  generation: z.int().exactOptional(),
  clearsAwait: z.boolean().exactOptional(),
  outbox: outboxEntry.exactOptional(),
});

const stream: z.ZodType<StreamMark> = z.looseObject({
  created: z.string(),
  lastSeq: z.int(),
  storedAt: z.string(),
  newAfter: z.int().exactOptional(),
});

const records: z.ZodType<readonly JournalRecord[]> = z.array(
  z.discriminatedUnion('op', [
    z.looseObject({ op: z.literal('begin'), key, verb: z.string() }),
    z.looseObject({ op: z.literal('take-back'), key }),
    z.looseObject({ op: z.literal('finish'), entries: z.array(finish) }),
    z.looseObject({ op: z.literal('confirm'), ids: z.array(z.string()) }),
    z.looseObject({ op: z.literal('desired'), desired }),
    z.looseObject({ op: z.literal('await-deploy'), reason: z.string() }),
    z.looseObject({ op: z.literal('move-stream'), stream }),
  ]),
);

const snapshot: z.ZodType<Snapshot> = z.looseObject({
  'l3af-journal': z.literal(1),
  instanceId: z.string().min(1),
  desired: desired.nullable(),
  generation: z.int().exactOptional(),
  stream: stream.exactOptional(),
  awaitingDeploy: z.string().exactOptional(),
  commands: z.array(command),
});

/** @throws Error that says in one line what is wrong with a journal's first line */
export function parseSnapshot(value: unknown): Snapshot {
  if (!isObject(value) || !('l3af-journal' in value)) throw new Error('the first line is not the head of a journal');
  const version = value['l3af-journal'];
  if (version !== 1) throw new Error(`it is of version ${JSON.stringify(version)}, and this agent reads version 1`);
  return parse(snapshot, value);
}

/** @throws Error that says what is wrong with the value of any other line */
export function parseRecords(value: unknown): readonly JournalRecord[] {
  return parse(records, value);
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Error(`${issue?.path.join('.')}: ${issue?.message}`);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
