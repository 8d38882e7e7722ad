import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FleetClient } from '../../../src/client/fleet-client.js';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import { HEADERS, STREAMS } from '../../../src/messages/subjects.js';
import type { AgentProcess } from '../../support/agent-process.js';
import { BrokerProxy } from '../../support/broker-proxy.js';
import { type BusBed, givenBusBed, HOST, namesOnXdp, onXdp, stepsOf } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';
import { until } from '../../support/until.js';

/*
 * Each command is run once and in order, or its answer says why not. Only one agent runs them.
 */

const portCount = payloadProgram('port-count', { seq_id: 1 });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });
const rateLimit = payloadProgram('rate-limit', { seq_id: 3 });

/** sysexits(3): EX_UNAVAILABLE. */
const EXIT_DUPLICATE_HOST = 69;

function verdict({ status, code }: Acknowledgement): string {
  return code === undefined ? status : `${status} ${code}`;
}

async function connectFleet({ server, atEnd }: BusBed): Promise<FleetClient> {
  const fleet = await FleetClient.connect({ servers: [server.url] });
  atEnd(() => fleet.close());
  return fleet;
}

async function runningPrograms(fleet: FleetClient): Promise<string[]> {
  const { programs } = await fleet.programs(HOST);
  return programs.filter(({ running }) => running).map(({ name }) => name);
}

function countOf(agent: AgentProcess, message: string): number {
  return agent.logs().filter(({ msg }) => msg === message).length;
}

/** A package repository that takes requests and never answers. */
async function startSilentRepository({ atEnd }: BusBed): Promise<string> {
  const server = createServer(() => undefined).listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** All logs of an agent that fails to start. It must end by itself. */
async function lastWords(agent: AgentProcess): Promise<{ code: number | null; words: string }> {
  // The start may seem to succeed, since the other agent answers for the host. So its result does not matter.
  await agent.start().catch(() => undefined);
  await until('the agent to end by itself', () => agent.pid === undefined);
  const { code } = await agent.stop();
  return { code, words: JSON.stringify(agent.logs()) };
}

describe('commands in their order', { concurrency: 2 }, () => {
  it('when two agents have the same host name, the second ends and the first continues', async (t) => {
    const bed = await givenBusBed(t);
    const first = bed.agent();
    await first.start();

    const { code, words } = await lastWords(bed.agent({ stateDir: join(bed.dir, 'other-state') }));

    assert.equal(code, EXIT_DUPLICATE_HOST);
    assert.match(words, /DUPLICATE_HOST/);
    assert.match(words, /Another agent, instance \S+, runs for host web1; stop it/);
    assert.equal(verdict(await bed.controller.send('deploy', onXdp(portCount))), 'applied');
    assert.equal(countOf(first, 'applying command'), 1);
  });

  it('a command of an old generation is superseded, and one after a gap is refused until the next deploy', async (t) => {
    const bed = await givenBusBed(t);
    const { controller } = bed;
    const agent = bed.agent();
    await agent.start();
    const fleet = await connectFleet(bed);
    const send = async (verb: string, payload: unknown, gen: number, prevGen?: number) => {
      const ack = await controller.send(verb, payload, { gen, ...(prevGen !== undefined && { prevGen }) });
      assert.equal(ack.gen, gen);
      return verdict(ack);
    };

    assert.equal(await send('deploy', onXdp(portCount), 5), 'applied');
    assert.equal(await send('deploy', onXdp(rateLimit), 5), 'superseded STALE_GENERATION');
    assert.equal(await send('add', onXdp(rateLimit), 4, 3), 'superseded STALE_GENERATION');
    assert.equal(await send('add', onXdp(portDrop), 8, 5), 'applied', 'generations need not be contiguous');
    assert.deepEqual(await runningPrograms(fleet), ['port-count', 'port-drop']);

    assert.equal(await send('add', onXdp({ ...rateLimit, version: '9.9' }), 9, 8), 'failed ARTIFACT_NOT_FOUND');
    assert.equal(await send('delete', namesOnXdp('port-drop'), 10, 9), 'rejected GENERATION_GAP');
    assert.equal(await send('delete', namesOnXdp('port-count'), 11, 10), 'rejected GENERATION_GAP');
    await controller.untilEvent('resync-required');
    assert.deepEqual(await runningPrograms(fleet), ['port-count', 'port-drop'], 'nothing was applied over the gap');

    assert.equal(await send('deploy', onXdp(rateLimit), 12), 'applied');
    await agent.kill('SIGKILL');
    await agent.start();
    assert.equal(await send('deploy', onXdp(portCount), 12), 'superseded STALE_GENERATION', 'also after a restart');
    assert.equal(await send('add', onXdp(portDrop), 13, 12), 'applied');
    assert.equal((await fleet.status(HOST)).gen, 13);
    assert.deepEqual(await runningPrograms(fleet), ['port-drop', 'rate-limit']);
    await controller.untilSettled();
  });

  it('an expired command is answered but not run; one that is in time is run', async (t) => {
    const bed = await givenBusBed(t);
    const { controller } = bed;
    const agent = bed.agent();
    await agent.start();
    const in1h = new Date(Date.now() + 3_600_000);

    assert.equal(verdict(await controller.send('deploy', onXdp(portCount), { expires: in1h })), 'applied');
    const steps = stepsOf(agent).length;
    const late = await controller.send('deploy', onXdp(rateLimit), { expires: new Date(Date.now() - 60_000) });

    assert.equal(verdict(late), 'expired EXPIRED');
    assert.deepEqual(late.programs, []);
    assert.equal(stepsOf(agent).length, steps);
    assert.equal(verdict(await controller.send('add', onXdp(portDrop))), 'applied');
    assert.deepEqual(await runningPrograms(await connectFleet(bed)), ['port-count', 'port-drop']);
    await controller.untilSettled();
  });

  it('a command whose id is sent twice is run and answered once, whether or not the server detects the duplicate', async (t) => {
    const bed = await givenBusBed(t);
    const { controller, server } = bed;
    const agent = bed.agent();
    await agent.start();
    const fleet = await connectFleet(bed);

    const first = await fleet.publish('deploy', HOST, onXdp(portCount), { id: 'once' });
    const second = await fleet.publish('deploy', HOST, onXdp(rateLimit), { id: 'once' });
    assert.deepEqual([first.duplicate, second.duplicate], [false, true]);
    assert.equal(second.seq, first.seq);
    assert.equal(verdict(await controller.ackOf('once')), 'applied');
    await controller.untilSettled();

    // The server remembers only the ids within its duplicate window, and reads them again when it starts.
    const window = 100_000_000;
    await controller.bus.jsm.streams.update(STREAMS.commands, { duplicate_window: window });
    await server.restart();
    const third = await controller.publish('deploy', onXdp(rateLimit), { id: 'once' });
    assert.ok(third.seq > first.seq, 'the server has stored it a second time');
    assert.equal(verdict(await controller.send('add', onXdp(portDrop))), 'applied');

    assert.equal((await controller.acks()).filter(({ id }) => id === 'once').length, 1);
    assert.equal(countOf(agent, 'applying command'), 2);
    const after = await connectFleet(bed);
    assert.deepEqual(await runningPrograms(after), ['port-count', 'port-drop']);
    await controller.untilSettled();
  });

  it('a command whose agent dies before it can tell the server that the command is done is not run again', async (t) => {
    const bed = await givenBusBed(t);
    const { controller, server } = bed;
    const proxy = new BrokerProxy(server.port);
    bed.atEnd(() => proxy.stop());
    const agent = bed.agent({ natsUrl: await proxy.start() });
    await agent.start();
    const died = proxy.arm({ line: /^\+ACK$/, when: 'before', strike: () => agent.kill('SIGKILL') });

    assert.equal(verdict(await controller.send('deploy', onXdp(portCount))), 'applied');
    await died;
    await agent.start();

    assert.equal(verdict(await controller.send('add', onXdp(portDrop))), 'applied');
    assert.deepEqual(
      (await controller.acks()).map(({ id }) => id),
      ['deploy-1', 'add-2'],
    );
    assert.equal(countOf(agent, 'applying command'), 2);
    await controller.untilSettled();
  });

  it('a command during which the agent dies again and again is quarantined, and the next one is served', async (t) => {
    const bed = await givenBusBed(t);
    const { controller } = bed;
    const agent = bed.agent();
    await agent.start();
    const deadly = onXdp({ ...portCount, ebpf_package_repo_url: await startSilentRepository(bed) });
    const { id } = await controller.publish('deploy', deadly, { gen: 7 });
    const next = await controller.publish('add', onXdp(portDrop));
    const fetches = () => stepsOf(agent).filter(({ step }) => step.startsWith('fetch package port-count')).length;
    let started = Promise.resolve();
    // The agent first runs the command alone, then with the next one as a backlog, then alone again until it gives up.
    for (const death of [1, 2, 3, 4]) {
      await until(`fetch ${death}`, () => fetches() === death);
      await agent.kill('SIGKILL');
      await Promise.allSettled([started]);
      started = agent.start();
    }
    await started;

    const answer = await controller.ackOf(id);
    assert.equal(verdict(answer), 'failed QUARANTINED');
    assert.match(answer.message ?? '', /3 times/);
    assert.equal(answer.gen, 7);
    assert.equal(verdict(await controller.ackOf(next.id)), 'applied', 'the next command is not held to blame');
    assert.equal(fetches(), 4);
    const letters = await controller.read(STREAMS.events, controller.subjects.deadLetter);
    assert.deepEqual(
      letters.map((letter) => [
        letter.json(),
        letter.headers?.get(HEADERS.commandId),
        letter.headers?.get(HEADERS.gen),
      ]),
      [[deadly, id, '7']],
    );
    await controller.untilEvent('quarantined');
    assert.equal((await controller.acks()).length, 2);
    await controller.untilSettled();
  });

  it('when two agents use the same state directory, the second ends and the first continues', async (t) => {
    const bed = await givenBusBed(t);
    const first = bed.agent();
    await first.start();

    const { code, words } = await lastWords(bed.agent({ hostName: 'web2' }));

    assert.equal(code, 1);
    assert.match(words, /Another agent already uses the state directory \S+, process \d+; stop it/);
    assert.equal(verdict(await bed.controller.send('deploy', onXdp(portCount))), 'applied');
  });
});
