import * as z from 'zod';
import type { DesiredState } from '../domain/desired.js';
import { CGROUP_ATTACH_POINTS, INTERFACE_ATTACH_POINTS } from '../domain/hook.js';
import { isObject } from '../domain/json.js';
import { programForm } from '../domain/program.js';
import type {
  CommandKey,
  CommandRecord,
  Finish,
  JournalRecord,
  Snapshot,
  StoredAnswer,
  StreamMark,
} from './records.js';

/*
 * The schema of a journal's lines. Fields that are not named here are kept, so that an optional field that was added to
 * a program is not lost. A new required field, or a new meaning of an old field, requires a new version.
 */

const desired: z.ZodType<DesiredState> = z.looseObject({
  chains: z.array(
    z.looseObject({
      hook: z.union([
        z.looseObject({ iface: z.string(), direction: z.enum(INTERFACE_ATTACH_POINTS) }),
        z.looseObject({ cgroup: z.string(), direction: z.enum(CGROUP_ATTACH_POINTS) }),
      ]),
      programs: z.array(programForm).min(1),
    }),
  ),
  addresses: z.record(z.string(), z.string()),
  probes: z.array(programForm).exactOptional(),
});

const key: z.ZodType<CommandKey> = z.looseObject({
  id: z.string(),
  idIsSequence: z.boolean(),
  seq: z.int(),
  storedAt: z.string(),
  streamCreated: z.string(),
});

const storedAnswer: z.ZodType<StoredAnswer> = z.looseObject({
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
  answer: storedAnswer.exactOptional(),
});

const finish: z.ZodType<Finish> = z.looseObject({
  key,
  verb: z.string(),
  status: z.string(),
  desired: desired.exactOptional(),
  generation: z.int().exactOptional(),
  clearsAwait: z.boolean().exactOptional(),
  outbox: storedAnswer.exactOptional(),
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

/** @throws Error with one line that says what is wrong with a journal's first line */
export function parseSnapshot(value: unknown): Snapshot {
  if (!isObject(value) || !('l3af-journal' in value)) throw new Error('the first line is not the header of a journal');
  const version = value['l3af-journal'];
  if (version !== 1) throw new Error(`it has version ${JSON.stringify(version)}, but this agent reads only version 1`);
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
