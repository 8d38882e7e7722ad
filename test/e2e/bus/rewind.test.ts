import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FleetClient } from '../../../src/client/fleet-client.js';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import type { AgentProcess } from '../../support/agent-process.js';
import { type BusBed, givenBusBed, HOST, namesOnXdp, onXdp } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';
import { untilGiven } from '../../support/until.js';

/*
 * When a broker's store is restored from an earlier copy, or its stream is created again, it assigns sequence numbers
 * a second time and has commands that ran already. The applied state stays. Deltas are refused until a deploy states
 * everything.
 */

const portCount = payloadProgram('port-count', { seq_id: 1 });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });
const rateLimit = payloadProgram('rate-limit', { seq_id: 3 });

async function runningPrograms({ server }: BusBed): Promise<string[]> {
  const client = await FleetClient.connect({ servers: [server.url] });
  try {
    const { programs } = await client.programs(HOST);
    return programs.filter(({ running }) => running).map(({ name }) => name);
  } finally {
    await client.close();
  }
}

function verdict({ id, status, code }: Acknowledgement): string {
  return code === undefined ? `${id} ${status}` : `${id} ${status} ${code}`;
}

/** Ids of the commands that were run, in order. */
function applied(agent: AgentProcess): string[] {
  return agent
    .logs()
    .filter(({ msg }) => msg === 'applying command')
    .map(({ op }) => String(op));
}

/** The agent runs three programs. The copy of the store has only the first two, the second as not yet carried out. */
async function givenCopyOfStore(bed: BusBed): Promise<AgentProcess> {
  const { controller, server } = bed;
  const agent = bed.agent();
  await agent.start();
  await controller.send('deploy', onXdp(portCount), { id: 'first' });
  await controller.untilSettled();
  await agent.stop();
  await controller.publish('add', onXdp(portDrop), { id: 'second' });
  await server.kill('SIGTERM');
  await server.saveStore();
  await server.restart();
  await agent.start();
  assert.equal((await controller.ackOf('second')).status, 'applied');
  await controller.send('add', onXdp(rateLimit), { id: 'third' });
  await controller.untilSettled();
  return agent;
}

async function putStoreBack({ server }: BusBed): Promise<void> {
  await server.kill('SIGTERM');
  await server.putBackStore();
  await server.restart();
}

/** Deltas are refused until a deploy, and accepted again after it. */
async function assertResyncAwaited(bed: BusBed): Promise<void> {
  const { controller } = bed;
  assert.equal(verdict(await controller.send('add', onXdp(portDrop), { id: 'a' })), 'a rejected RESYNC_REQUIRED');
  assert.equal(
    verdict(await controller.send('delete', namesOnXdp('port-count'), { id: 'b' })),
    'b rejected RESYNC_REQUIRED',
  );
  assert.equal(verdict(await controller.send('deploy', onXdp(portDrop, rateLimit), { id: 'c' })), 'c applied');
  assert.equal(verdict(await controller.send('delete', namesOnXdp('port-drop'), { id: 'd' })), 'd applied');
  assert.deepEqual(await runningPrograms(bed), ['rate-limit']);
  await controller.untilSettled();
}

test('a running agent notices a restored store, and runs nothing again', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const agent = await givenCopyOfStore(bed);

  await putStoreBack(bed);

  assert.match((await controller.untilEvent('rewind')).message, /put back to an earlier state/);
  await controller.untilEvent('resync-required');
  await controller.untilSettled();
  assert.deepEqual(await runningPrograms(bed), ['port-count', 'port-drop', 'rate-limit']);
  assert.deepEqual(applied(agent), ['first', 'second', 'third']);
  assert.deepEqual(
    (await controller.acks()).map(verdict),
    ['first applied', 'second applied'],
    'what the store has lost is answered again, from the record',
  );
  await assertResyncAwaited(bed);
  assert.equal((await controller.events()).filter(({ kind }) => kind === 'rewind').length, 1);
});

test('an agent notices at its start that the store was restored, also when it is started twice', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const agent = await givenCopyOfStore(bed);
  await agent.stop();
  await putStoreBack(bed);

  await agent.start();
  await controller.untilEvent('rewind');
  await controller.untilSettled();
  await agent.stop();
  await agent.start();

  assert.deepEqual(await runningPrograms(bed), ['port-count', 'port-drop', 'rate-limit']);
  assert.deepEqual(applied(agent), ['first', 'second', 'third']);
  assert.deepEqual((await controller.acks()).map(verdict), ['first applied', 'second applied']);
  await assertResyncAwaited(bed);
});

test('an agent notices a restored store that has grown past its former end', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const agent = await givenCopyOfStore(bed);
  await agent.stop();
  await putStoreBack(bed);
  for (const id of ['new-third', 'new-fourth']) await controller.publish('delete', namesOnXdp('port-drop'), { id });

  await agent.start();

  await controller.untilEvent('rewind');
  assert.equal(verdict(await controller.ackOf('new-fourth')), 'new-fourth rejected RESYNC_REQUIRED');
  assert.deepEqual(applied(agent), ['first', 'second', 'third']);
  await assertResyncAwaited(bed);
});

test('a running agent notices a deleted stream and creates it again; commands that are sent again do not run again', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const agent = bed.agent();
  await agent.start();
  await controller.send('deploy', onXdp(portCount), { id: 'first' });
  await controller.send('add', onXdp(rateLimit), { id: 'second' });
  await controller.untilSettled();

  await controller.deleteCommands();

  assert.match((await controller.untilEvent('rewind')).message, /created again/);
  await controller.publish('deploy', onXdp(portCount), { id: 'first' });
  await controller.publish('add', onXdp(rateLimit), { id: 'second' });
  await controller.untilSettled();
  assert.deepEqual(applied(agent), ['first', 'second']);
  assert.deepEqual(await runningPrograms(bed), ['port-count', 'rate-limit']);
  assert.deepEqual((await controller.acks()).map(verdict), ['first applied', 'second applied']);
  await assertResyncAwaited(bed);
});

test('after a rewind, commands that are too old for the record do not run again', async (t) => {
  const bed = await givenBusBed(t);
  const { controller, server } = bed;
  const agent = bed.agent();
  await agent.start();
  await controller.send('deploy', onXdp(rateLimit), { id: 'oldest' });
  await agent.stop();
  await controller.publishAll(Array.from({ length: 4_200 }, () => ['delete', namesOnXdp('never-there')]));
  await agent.start();
  await controller.untilSettled();
  await server.kill('SIGTERM');
  await server.saveStore();
  await server.restart();
  await controller.send('deploy', onXdp(portCount), { id: 'newest' });
  await agent.stop();
  await putStoreBack(bed);
  await controller.deleteConsumer();

  await agent.start();

  const again = await untilGiven('the oldest command to be answered again', () =>
    agent.logs().find(({ msg, op, status }) => msg === 'command answered' && op === 'oldest' && status !== 'applied'),
  );
  assert.deepEqual([again.status, again.code], ['superseded', 'SUPERSEDED']);
  assert.deepEqual(applied(agent), ['oldest', 'newest']);
  assert.deepEqual(await runningPrograms(bed), ['port-count']);
});
