import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { Lane } from '../../src/apply/lane.js';
import type { Delivery } from '../../src/bus/delivery.js';
import { Agent } from '../../src/commands/agent.js';
import { answerRejected, finishOf } from '../../src/commands/answer.js';
import type { CommandBus } from '../../src/commands/command-bus.js';
import { keyOf } from '../../src/commands/reading.js';
import { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import { NOTHING_DESIRED } from '../../src/domain/desired.js';
import type { AttachPointName } from '../../src/domain/hook.js';
import { type Fault, RefusedError } from '../../src/errors.js';
import type { Acknowledgement } from '../../src/messages/ack.js';
import { Host } from '../../src/reconcile/host.js';
import type { Journal } from '../../src/store/journal.js';
import { createLogger } from '../../src/telemetry/log.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { answeringBus } from '../support/answering-bus.js';
import {
  builtPackages,
  desiredAt,
  noCompanions,
  pathAt,
  planContext,
  program,
  restartPolicy,
} from '../support/chains.js';
import { alone, reconcile } from '../support/in-turn.js';
import { openJournal, temporaryDir } from '../unit/store/samples.js';

/*
 * An agent whose bus is a list. Shows what happens to commands when something else fails.
 */

const BPFFS = '/bpffs';
const hook = { iface: 'veth0', direction: 'xdpingress' } as const;
const log = createLogger({ level: 'silent', host: 'web1' });

function delivery(seq: number, verb: string, ...programs: readonly { name: string; seq_id: number }[]): Delivery {
  const rest = { version: '1.0', artifact: 'mark.tar.gz', map_name: 'mark_next' };
  const object = { object_file: 'xdp_mark.bpf.o', entry_function_name: 'xdp_mark' };
  const list = programs.map((fields) => ({ ...fields, ...rest, ...object }));
  const payload = [{ host_name: 'web1', iface: 'veth0', bpf_programs: { xdp_ingress: list } }];
  const storedAt = new Date(Date.UTC(2026, 0, 1) + seq).toISOString();
  const headers = { gen: undefined, prevGen: undefined, expires: undefined };
  const body = Buffer.from(JSON.stringify(payload));
  return { id: `c${seq}`, verb, body, seq, storedAt, streamCreated: 'A', ...headers };
}

function givenAgent(journal: Journal, datapath: MemoryDatapath, backlog: readonly Delivery[] = []) {
  const answers: Acknowledgement[] = [];
  let handler: ((delivery: Delivery) => Promise<unknown>) | undefined;
  const bus: CommandBus = {
    ...answeringBus(journal, 'A', (answer) => answers.push(answer)),
    position: async () => ({ created: 'A', lastSeq: backlog.at(-1)?.seq ?? 0, consumerFloor: 0 }),
    backlog: async () => ({ deliveries: backlog, upTo: backlog.at(-1)?.seq ?? 0 }),
    bodies: async ([from, upTo], begin) => {
      const take = begin();
      for (const command of backlog) if (command.seq >= from && command.seq <= upTo) take(command);
    },
    consume: async (_after, handle) => {
      handler = handle;
    },
  };
  const metrics = new Metrics('web1');
  const host = new Host({
    tools: { datapath, packages: builtPackages, companions: noCompanions },
    context: planContext(BPFFS),
    metrics,
    restartPolicy,
  });
  const shared = {
    hostName: 'web1',
    ackSubject: 'l3af.ack.web1',
    rules: { chaining: true, ordered: new Set<AttachPointName>(['ingress', 'egress']) },
    serverNow: Date.now,
    signal: new AbortController().signal,
    stands: async () => true,
  };
  const agent = new Agent({ ...shared, journal, host, bus, metrics, log, lane: new Lane() });
  return { agent, answers, host: alone(host), handler: () => handler };
}

function givenDatapath(): MemoryDatapath {
  return new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
}

async function givenJournal(t: TestContext): Promise<Journal> {
  return openJournal(t, await temporaryDir(t));
}

describe('a command', () => {
  test('that fails repeatedly without ending the agent is not quarantined', async (t) => {
    const [journal, datapath] = [await givenJournal(t), givenDatapath()];
    const { agent, answers } = givenAgent(journal, datapath);
    const observe = datapath.observe.bind(datapath);
    const command = delivery(1, 'deploy', { name: 'a', seq_id: 1 });

    datapath.observe = () => Promise.reject(new Error('too many open files'));
    for (let time = 0; time < 5; time += 1) await assert.rejects(agent.handle(command), /too many open files/);
    datapath.observe = observe;
    await agent.handle(command);

    assert.deepEqual(
      answers.map(({ status }) => status),
      ['applied'],
    );
  });

  test('that three runs of the agent have begun is quarantined', async (t) => {
    const [journal, datapath] = [await givenJournal(t), givenDatapath()];
    const command = delivery(1, 'deploy', { name: 'a', seq_id: 1 });
    for (let run = 0; run < 3; run += 1) await journal.begin(keyOf(command), 'deploy');
    const { agent, answers } = givenAgent(journal, datapath);

    await agent.handle(command);

    assert.deepEqual(
      answers.map(({ status, code }) => [status, code]),
      [['failed', 'QUARANTINED']],
    );
  });

  test('with thousands of faults has an answer that is small enough for the server', () => {
    const message = `x${'y'.repeat(150)}`;
    const faults = Array.from(
      { length: 6000 },
      (): Fault => ({ path: '0.bpf_programs', code: 'INVALID_FIELD', message }),
    );
    const receipt = { host: 'web1', delivery: delivery(1, 'deploy'), gen: undefined, receivedAt: new Date() };

    const answer = answerRejected(receipt, new RefusedError(faults as [Fault, ...Fault[]]));
    const { outbox } = finishOf(keyOf(delivery(1, 'deploy')), answer, { hostName: 'web1', ackSubject: 's' });

    assert.ok(outbox!.body.length < 2 ** 20);
    assert.match(JSON.parse(outbox!.body).message, /and 5999 more/);
  });
});

test('a backlog of deltas removes nothing on a host that has lost its desired state', async (t) => {
  const [journal, datapath] = [await givenJournal(t), givenDatapath()];
  const desired = desiredAt(hook, program('p', 1), program('q', 2));
  await reconcile(
    { before: NOTHING_DESIRED, desired },
    { datapath, packages: builtPackages, companions: noCompanions },
    planContext(BPFFS),
  );
  const backlog = [delivery(1, 'add', { name: 'x', seq_id: 3 }), delivery(2, 'add', { name: 'y', seq_id: 4 })];
  const { agent, answers, handler } = givenAgent(journal, datapath, backlog);

  await agent.start();
  for (const command of backlog) await handler()?.(command);

  assert.deepEqual(pathAt(await datapath.observe(), hook), ['p@1_0', 'q@1_0']);
  assert.deepEqual(
    answers.map(({ status, code }) => [status, code]),
    [
      ['rejected', 'RESYNC_REQUIRED'],
      ['rejected', 'RESYNC_REQUIRED'],
    ],
  );
});

test('a replayed deploy lists programs without their interface, which stay desired and start when it appears', async (t) => {
  const interfaces = new Map([['veth0', 2]]);
  const [journal, datapath] = [await givenJournal(t), new MemoryDatapath({ bpffs: BPFFS, interfaces })];
  const command = delivery(1, 'deploy', { name: 'a', seq_id: 1 });
  const [there] = JSON.parse(Buffer.from(command.body).toString());
  const body = Buffer.from(JSON.stringify([there, { ...there, iface: 'late0' }]));
  const { agent, answers, host } = givenAgent(journal, datapath, [{ ...command, body }]);

  await agent.start();

  const results = answers[0]!.programs.map(({ iface, result, prog_id }) => [iface, result, prog_id !== undefined]);
  assert.equal(answers[0]!.status, 'applied');
  assert.deepEqual(results, [
    ['veth0', 'started', true],
    ['late0', 'failed', false],
  ]);
  assert.match(answers[0]!.programs[1]?.message ?? '', /no interface late0/);
  interfaces.set('late0', 3);
  await host.repair(journal.desired!, log);
  assert.deepEqual(pathAt(await datapath.observe(), { iface: 'late0', direction: 'xdpingress' }), ['a@1_0']);
});

test('an agent that dies while it records a rewind still refuses deltas afterwards', async (t) => {
  const [journal, datapath] = [await givenJournal(t), givenDatapath()];
  const first = givenAgent(journal, datapath);
  await first.agent.handle(delivery(7, 'deploy', { name: 'a', seq_id: 1 }));

  const moveStream = journal.moveStream.bind(journal);
  journal.moveStream = () => Promise.reject(new Error('killed'));
  await assert.rejects(givenAgent(journal, datapath).agent.start());
  journal.moveStream = moveStream;
  const next = givenAgent(journal, datapath);
  await next.agent.handle({ ...delivery(8, 'add', { name: 'b', seq_id: 2 }), streamCreated: 'B' });

  assert.deepEqual(
    next.answers.map(({ code }) => code),
    ['RESYNC_REQUIRED'],
  );
});
