import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import fc from 'fast-check';
import { type CommandKey, type CommandRecord, type Finish, Journal } from '../../../src/store/journal.js';
import type { StreamMark } from '../../../src/store/records.js';
import { repeats } from '../../support/repeats.js';
import { answerTo, commandKey, desiring, finished, STREAM } from './samples.js';

const MAX_RECORDS = 4;
const MAX_ANSWER_LENGTH = 150;

/** What a journal should know, as the simplest code. */
class Model {
  desired: unknown = null;
  generation: number | undefined;
  stream: StreamMark | undefined;
  awaitingDeploy: string | undefined;
  commands: CommandRecord[] = [];

  find(key: CommandKey): CommandRecord | undefined {
    return this.commands.find(({ key: other }) => sameCommand(key, other));
  }

  put(command: CommandRecord): void {
    this.commands = [...this.commands.filter(({ key }) => !sameCommand(key, command.key)), command];
  }

  finish({ key, verb, status, outbox, ...effect }: Finish): void {
    const attempts = this.find(key)?.attempts ?? 0;
    this.put({ key, verb, attempts, status, acknowledged: !outbox, ...(outbox && { answer: outbox }) });
    this.desired = effect.desired ?? this.desired;
    this.generation = effect.generation ?? this.generation;
    if (effect.clearsAwait) this.awaitingDeploy = undefined;
    if (this.stream?.lastSeq === 0 && this.awaitingDeploy !== undefined) return;
    if (this.stream?.created === key.streamCreated && this.stream.lastSeq >= key.seq) return;
    this.stream = { created: key.streamCreated, lastSeq: key.seq, storedAt: key.storedAt };
  }

  confirm(id: string): void {
    this.commands = this.commands.map((command) =>
      command.answer?.id === id ? { ...command, acknowledged: true } : command,
    );
  }

  pending() {
    return this.commands.filter(isPending).map(({ answer }) => answer);
  }

  forget(): void {
    const settled = () => this.commands.filter((command) => !isPending(command));
    while (settled().length > MAX_RECORDS) this.commands = this.commands.filter((command) => command !== settled()[0]);
    const answered = () => settled().filter(({ answer }) => answer !== undefined);
    while (answered().reduce((sum, { answer }) => sum + (answer?.body.length ?? 0), 0) > MAX_ANSWER_LENGTH) {
      const [oldest] = answered();
      this.commands = this.commands.map((command) => (command === oldest ? withoutAnswer(command) : command));
    }
  }
}

function sameCommand(a: CommandKey, b: CommandKey): boolean {
  return a.id === b.id && a.idIsSequence === b.idIsSequence && (!a.idIsSequence || a.storedAt === b.storedAt);
}

function isPending({ status, acknowledged }: CommandRecord): boolean {
  return status !== undefined && !acknowledged;
}

function withoutAnswer({ answer: _, ...command }: CommandRecord): CommandRecord {
  return command;
}

const keys = [1, 2, 3, 4, 5, 6].flatMap((seq) => {
  const id = `L3AF_CMD:${seq}`;
  return [
    commandKey(seq),
    commandKey(seq, { id, idIsSequence: true }),
    { ...commandKey(seq + 40), id, idIsSequence: true },
  ];
});
const key = fc.constantFrom(...keys);
const desired = fc.subarray(['ratelimiting', 'connlimit', 'ipfix']).map((names) => desiring(...names));
const finish = fc
  .record({
    key,
    body: fc.string({ maxLength: 90 }),
    answered: fc.boolean(),
    effect: fc.record({ desired, generation: fc.nat(99), clearsAwait: fc.boolean() }, { requiredKeys: [] }),
  })
  .map(({ key, body, answered, effect }): Finish => {
    const { outbox: _, ...bare } = finished(key, effect);
    return answered ? { ...bare, outbox: answerTo(key, body) } : bare;
  });

const operation = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('begin' as const), key }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('finish' as const), finish }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('confirm' as const), key }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('finishMany' as const), entries: fc.array(finish, { maxLength: 5 }) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('setDesired' as const), desired }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('awaitDeploy' as const), reason: fc.string() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('moveStream' as const), lastSeq: fc.nat(50) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('reopen' as const) }) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

async function perform(journal: Journal, model: Model, operation: Operation): Promise<void> {
  switch (operation.op) {
    case 'begin': {
      const known = model.find(operation.key);
      const begun = journal.begin(operation.key, 'add');
      if (known?.status !== undefined) return assert.rejects(begun, { code: 'INTERNAL' });
      const attempts = (known?.attempts ?? 0) + 1;
      model.put({ key: operation.key, verb: 'add', attempts, acknowledged: false });
      return assert.equal(await begun, attempts);
    }
    case 'finish':
      model.finish(operation.finish);
      return journal.finish(operation.finish);
    case 'confirm':
      model.confirm(answerTo(operation.key).id);
      return journal.confirm(answerTo(operation.key).id);
    case 'finishMany':
      for (const entry of operation.entries) model.finish(entry);
      return journal.finishMany(operation.entries);
    case 'setDesired':
      model.desired = operation.desired;
      return journal.setDesired(operation.desired);
    case 'awaitDeploy':
      model.awaitingDeploy = operation.reason;
      return journal.awaitDeploy(operation.reason);
    case 'moveStream':
      model.stream = { created: STREAM, lastSeq: operation.lastSeq, storedAt: '' };
      return journal.moveStream({ created: STREAM, lastSeq: operation.lastSeq });
    case 'reopen':
      await journal.close();
      assert.deepEqual(await journal.open(), { fresh: false, truncatedTail: false });
  }
}

function assertKnows(journal: Journal, model: Model): void {
  const { desired, generation, stream, awaitingDeploy } = model;
  assert.deepEqual(journal.desired, desired);
  assert.deepEqual(
    { generation: journal.generation, stream: journal.stream, awaitingDeploy: journal.awaitingDeploy },
    { generation, stream, awaitingDeploy },
  );
  assert.deepEqual(journal.pending(), model.pending());
  for (const key of keys) assert.deepEqual(journal.find(key), model.find(key));
}

it('knows the same as a simple model after any sequence of calls, and also after it is opened again', async () => {
  const property = fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (operations) => {
    const dir = await mkdtemp(join(tmpdir(), 'l3af-store-'));
    const limits = { maxRecords: MAX_RECORDS, maxAnswerLength: MAX_ANSWER_LENGTH };
    const journal = new Journal({ dir, ...limits, compactAbove: 3000 });
    const model = new Model();
    try {
      await journal.open();
      for (const operation of operations) {
        await perform(journal, model, operation);
        model.forget();
        assertKnows(journal, model);
      }
      await journal.close();
      await journal.open();
      assertKnows(journal, model);
    } finally {
      await journal.close();
      await rm(dir, { recursive: true });
    }
  });
  await fc.assert(property, { numRuns: repeats({ usual: 30, full: 150 }) });
});
