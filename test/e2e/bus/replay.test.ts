import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FleetClient } from '../../../src/client/fleet-client.js';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import type { AgentProcess } from '../../support/agent-process.js';
import { type BusBed, givenBusBed, HOST, namesOnXdp, onXdp, stepsOf } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';
import { until } from '../../support/until.js';

/*
 * A starting agent finds the commands that were sent while it was away, and applies their combined result at once.
 */

const portCount = payloadProgram('port-count', { seq_id: 1 });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });
const rateLimit = payloadProgram('rate-limit', { seq_id: 3 });

/** Commands of every kind. They contradict each other, and no two deploys or adds request the same. */
function history(length: number): [verb: string, payload: unknown][] {
  return Array.from({ length }, (_, index) => {
    const config = { ...portDrop, seq_id: 10 + index };
    if (index % 3 === 0) return ['deploy', onXdp(config)];
    if (index % 3 === 1) return ['add', onXdp({ ...rateLimit, seq_id: 10 + index })];
    return ['delete', namesOnXdp('port-drop')];
  });
}

async function runningPrograms({ server }: BusBed): Promise<string[]> {
  const client = await FleetClient.connect({ servers: [server.url] });
  try {
    const { programs } = await client.programs(HOST);
    return programs.filter(({ running }) => running).map(({ name, seq_id }) => `${seq_id} ${name}`);
  } finally {
    await client.close();
  }
}

function verdicts(acks: readonly Acknowledgement[]): string[] {
  return acks.map(({ id, status, code }) => [id, status, code].filter((word) => word !== undefined).join(' '));
}

/** The steps after the agent's own repair at its start. */
function commandSteps(agent: AgentProcess): { op: string; step: string }[] {
  return stepsOf(agent).filter(({ op }) => op !== 'reconcile');
}

/** The log line about the backlog that an agent found at its last start. */
function caughtUp(agent: AgentProcess) {
  return agent.logs().findLast(({ msg }) => msg === 'caught up with the stream');
}

test('a host without state and with 10,000 earlier commands reaches its desired state by one reconcile', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  await controller.createStreams();
  await controller.publishAll(history(9_993));
  await controller.publishAll([
    ['deploy', onXdp(portCount, portDrop)],
    ['add', onXdp(rateLimit)],
    ['add', onXdp({ ...portDrop, seq_id: 7 })],
    ['delete', namesOnXdp('port-drop', 'never-there')],
    ['add', { host_name: HOST }],
    ['delete', namesOnXdp('port-drop')],
  ]);
  await controller.publish('add', onXdp(portDrop), { expires: new Date(Date.now() - 1_000) });
  const agent = bed.agent();

  await agent.start();

  assert.deepEqual(await runningPrograms(bed), ['1 port-count', '3 rate-limit']);
  await until('it has caught up', () => caughtUp(agent) !== undefined);
  assert.deepEqual([caughtUp(agent)?.commands, caughtUp(agent)?.folded], [7, true]);
  const steps = commandSteps(agent);
  assert.deepEqual([...new Set(steps.map(({ op }) => op))], ['delete-9999'], 'one reconcile, for one command');
  assert.deepEqual(
    steps.filter(({ step }) => /^(load|attach)/.test(step)).map(({ step }) => step.split(' ').slice(0, 2).join(' ')),
    ['load xdp-root', 'load port-count', 'load rate-limit', 'attach xdp-root'],
  );

  const acks = await controller.acks();
  assert.deepEqual(verdicts(acks), [
    'deploy-9994 superseded SUPERSEDED',
    'add-9995 superseded SUPERSEDED',
    'add-9996 rejected NAME_CONFLICT',
    'delete-9997 superseded SUPERSEDED',
    'add-9998 rejected INVALID_FIELD',
    'delete-9999 applied',
    'add-10000 expired EXPIRED',
  ]);
  // It tells the time from before the first step.
  const [first] = agent.logs().filter(({ msg, op }) => msg === 'step' && op === 'delete-9999');
  assert.ok(
    new Date(acks[5]!.received_at) <= new Date(first!.time as string),
    `${acks[5]!.received_at} ${first!.time}`,
  );
  assert.deepEqual(
    acks[5]?.programs.map(({ name, result }) => [name, result]),
    [
      ['port-count', 'started'],
      ['rate-limit', 'started'],
      ['port-drop', 'unchanged'],
    ],
  );

  const { status } = await controller.send('add', onXdp(portDrop));
  assert.equal(status, 'applied');
  assert.deepEqual(await runningPrograms(bed), ['1 port-count', '2 port-drop', '3 rate-limit']);
  await controller.untilSettled();
});

test('a host that was away answers every command that it missed, and reconciles once', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const agent = bed.agent();
  await agent.start();
  await controller.send('deploy', onXdp(portCount, rateLimit));
  await controller.untilSettled();
  await agent.stop();
  const missed = await controller.publishAll([
    ...history(1_997),
    ['deploy', onXdp(portCount)],
    ['add', onXdp(portDrop)],
    ['delete', namesOnXdp('port-count')],
  ]);
  const before = commandSteps(agent).length;

  await agent.start();

  assert.deepEqual(await runningPrograms(bed), ['2 port-drop']);
  await until('it has caught up with all of them', () => caughtUp(agent)?.commands === missed.length);
  const steps = commandSteps(agent).slice(before);
  assert.deepEqual([...new Set(steps.map(({ op }) => op))], [missed.at(-1)], 'one reconcile, for one command');
  assert.equal(steps.filter(({ step }) => step.startsWith('load')).length, 1, 'what runs already is not loaded again');

  const acks = (await controller.acks()).slice(1);
  assert.deepEqual(
    acks.map(({ id }) => id),
    missed,
    'one answer each, in the order of the commands',
  );
  assert.equal(acks.at(-1)?.status, 'applied');
  for (const { id, status } of acks.slice(0, -1))
    assert.ok(['superseded', 'rejected'].includes(status), `${id} ${status}`);
  await controller.untilSettled();
});

test('a refused deploy does not hide the commands before it', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  await controller.createStreams();
  await controller.publishAll([
    ['deploy', onXdp(rateLimit)],
    ['deploy', onXdp(portCount)],
    ['add', onXdp(portDrop)],
    ['deploy', Buffer.from('{ this is no JSON')],
    ['deploy', [{ host_name: 'web2', iface: 'lo', bpf_programs: null }]],
  ]);
  await controller.publish('deploy', onXdp(rateLimit), { expires: new Date(Date.now() - 1_000) });

  await bed.agent().start();

  assert.deepEqual(await runningPrograms(bed), ['1 port-count', '2 port-drop']);
  assert.deepEqual(verdicts(await controller.acks()), [
    'deploy-2 superseded SUPERSEDED',
    'add-3 applied',
    'deploy-4 rejected INVALID_JSON',
    'deploy-5 rejected FOREIGN_HOST',
    'deploy-6 expired EXPIRED',
  ]);
  await controller.untilSettled();
});

test('when the combined result of a backlog cannot be applied, its commands are run one by one', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  await controller.createStreams();
  await controller.publishAll([
    ['deploy', onXdp(portCount)],
    ['add', onXdp({ ...rateLimit, version: '9.9' })],
    ['add', onXdp(portDrop)],
  ]);

  await bed.agent().start();

  const last = await controller.ackOf('add-3');
  assert.equal(last.status, 'applied');
  assert.deepEqual(verdicts(await controller.acks()), [
    'deploy-1 applied',
    'add-2 failed ARTIFACT_NOT_FOUND',
    'add-3 applied',
  ]);
  assert.deepEqual(await runningPrograms(bed), ['1 port-count', '2 port-drop']);
  await controller.untilSettled();
});
