import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import { type BusBed, givenBusBed, HOST, IFACE, namesOnXdp, onXdp } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';
import { repeats } from '../../support/repeats.js';
import { Mutator } from '../../unit/messages/mutate.js';

/*
 * An agent answers every command exactly once, however broken it is, and continues to serve.
 */

const portCount = payloadProgram('port-count', { seq_id: 1 });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });

const DEPLOY = onXdp(portCount, portDrop);
const XDP = '0.bpf_programs.xdp_ingress';

function entry(fields: Readonly<Record<string, unknown>>): unknown {
  return [{ host_name: HOST, iface: IFACE, bpf_programs: null, ...fields }];
}

const REFUSED: readonly [what: string, verb: string, payload: unknown, code: string, path: string | undefined][] = [
  ['no JSON', 'deploy', Buffer.from('[{"host_name": "web1",'), 'INVALID_JSON', undefined],
  ['no UTF-8', 'add', Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d]), 'INVALID_JSON', undefined],
  ['nothing', 'deploy', Buffer.alloc(0), 'INVALID_JSON', undefined],
  ['no list', 'deploy', { host_name: HOST }, 'INVALID_FIELD', undefined],
  ['a wrong field', 'deploy', onXdp(portCount, { ...portDrop, seq_id: -1 }), 'INVALID_FIELD', `${XDP}.1.seq_id`],
  ['a wrong type', 'delete', entry({ bpf_programs: { xdp_ingress: [7] } }), 'INVALID_FIELD', `${XDP}.0`],
  ['an unknown field', 'add', entry({ colour: 'red' }), 'UNKNOWN_FIELD', '0.colour'],
  ["another host's name", 'deploy', entry({ host_name: 'web2' }), 'FOREIGN_HOST', '0.host_name'],
  ['an unknown verb', 'reboot', DEPLOY, 'UNKNOWN_VERB', undefined],
  ['one name twice', 'deploy', onXdp(portCount, { ...portCount, seq_id: 9 }), 'DUPLICATE_NAME', `${XDP}.1.name`],
  ['one place twice', 'deploy', onXdp(portCount, { ...portDrop, seq_id: 1 }), 'DUPLICATE_SEQ_ID', `${XDP}.1.seq_id`],
  [
    'a probe with a place in a chain',
    'deploy',
    entry({ bpf_programs: { probes: [portCount] } }),
    'INVALID_FIELD',
    '0.bpf_programs.probes.0.map_name',
  ],
];

test('each kind of bad command is rejected with its code and field path, and the next command is served', async (t) => {
  const { agent, controller } = await givenBusBed(t);
  await agent().start();

  for (const [index, [what, verb, payload, code, path]] of REFUSED.entries()) {
    const answer = await controller.send(verb, payload);
    assert.deepEqual([answer.status, answer.code, answer.verb], ['rejected', code, verb], what);
    assert.ok(
      answer.errors.some((fault) => fault.code === code && fault.path === path),
      `${what}: ${JSON.stringify(answer.errors)}`,
    );
    assert.deepEqual(answer.programs, [], what);
    const next = await controller.send('deploy', onXdp({ ...portCount, seq_id: 10 + index }));
    assert.equal(next.status, 'applied', `the command after ${what}`);
  }

  const ids = (await controller.acks()).map(({ id }) => id);
  assert.equal(ids.length, 2 * REFUSED.length);
  assert.equal(new Set(ids).size, ids.length, 'one answer each');
  await controller.untilSettled();
});

const MUTATED = repeats({ usual: 1_500, full: 10_000 });
const WARM_UP = 2_000;
const BATCH = 500;
const GROWTH_MAX_MIB = 96;

/** Commands of every verb, changed in their structure or in their bytes. */
function mutatedCommands(): [verb: string, payload: unknown][] {
  const mutator = new Mutator(20_260_131);
  const sound = [
    ['deploy', DEPLOY],
    ['add', onXdp(portDrop)],
    ['delete', namesOnXdp('port-count', 'port-drop')],
  ] as const;
  return Array.from({ length: MUTATED }, () => {
    const [verb, payload] = mutator.pick(sound);
    if (mutator.below(2) === 0) return [verb, mutator.bytes(Buffer.from(JSON.stringify(payload)))];
    return [verb, Buffer.from(JSON.stringify(mutator.structure(payload)) ?? 'null')];
  });
}

/** Resident memory of a process in MiB, from proc(5). */
function residentMib(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) / 1024;
}

/** Stores the commands and waits until the agent has answered them. Batches save memory in this process. */
async function run({ controller }: BusBed, commands: readonly (readonly [string, unknown])[]): Promise<string[]> {
  const ids: string[] = [];
  for (let from = 0; from < commands.length; from += BATCH) {
    ids.push(...(await controller.publishAll(commands.slice(from, from + BATCH))));
    await controller.untilSettled();
  }
  return ids;
}

function tally(acks: readonly Acknowledgement[]): Partial<Record<string, number>> {
  const count: Partial<Record<string, number>> = {};
  for (const { status } of acks) count[status] = (count[status] ?? 0) + 1;
  return count;
}

test(`${MUTATED} mutated commands get one answer each, and the agent neither ends nor grows`, async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const agent = bed.agent({ env: { L3AF_LOG_LEVEL: 'error' } });
  await agent.start();
  const pid = agent.pid;
  assert.ok(pid !== undefined);
  const commands = mutatedCommands();

  const ids = await run(bed, commands.slice(0, WARM_UP));
  const warm = residentMib(pid);
  ids.push(...(await run(bed, commands.slice(WARM_UP))));
  const end = residentMib(pid);

  assert.equal(agent.pid, pid, 'it is the same process still');
  const acks = await controller.acks();
  assert.deepEqual(
    acks.map(({ id }) => id),
    ids,
    'one answer each, in the order of the commands',
  );
  const { rejected = 0, applied = 0 } = tally(acks);
  assert.ok(rejected > MUTATED / 4, `only ${rejected} rejected: the mutations are too tame to tell anything`);
  assert.ok(applied > 10, `only ${applied} applied: the mutations are too wild to tell anything`);
  assert.deepEqual(
    acks
      .filter(({ code }) => code === 'INTERNAL' || code === 'QUARANTINED')
      .map(({ id, message }) => `${id} ${message}`),
    [],
  );
  t.diagnostic(`${JSON.stringify(tally(acks))}; resident ${warm.toFixed(0)} MiB, then ${end.toFixed(0)} MiB`);
  assert.ok(end - warm < GROWTH_MAX_MIB, `grew from ${warm.toFixed(0)} to ${end.toFixed(0)} MiB`);
  assert.equal((await controller.send('deploy', DEPLOY)).errors.length, 0);
});
