import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Observer } from '../../../src/apply/executor.js';
import { loadConfig } from '../../../src/config.js';
import { Daemon } from '../../../src/daemon/daemon.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import type { ChainHook } from '../../../src/domain/hook.js';
import { describeStep } from '../../../src/steps/describe.js';
import { createLogger } from '../../../src/telemetry/log.js';
import { BrokerProxy } from '../../support/broker-proxy.js';
import { type BusBed, givenBusBed, HOST, IFACE, onXdp, PLATFORM } from '../../support/bus-bed.js';
import { pathAt } from '../../support/chains.js';
import type { Member } from '../../support/nats.js';
import { payloadProgram } from '../../support/packages.js';
import { SLOWNESS, until } from '../../support/until.js';

/*
 * A broker that dies in the middle of a command. The agent runs within the test, so that the moment can be exact.
 */

const HOOK: ChainHook = { iface: IFACE, direction: 'xdpingress' };

const portCount = payloadProgram('port-count', { seq_id: 1 });
const newPortCount = payloadProgram('port-count', { seq_id: 1, version: '2.0' });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });
const rateLimit = payloadProgram('rate-limit', { seq_id: 3 });

/** Two states of the host. A change between them takes every kind of step except the removal of the chain. */
const ONE = onXdp(portCount, portDrop);
const OTHER = onXdp(newPortCount, rateLimit);

interface Within {
  readonly datapath: MemoryDatapath;
  /** Steps taken so far. */
  readonly steps: string[];
  /** Messages logged so far. */
  readonly messages: string[];
  /** The server to which it was connected last, as address and port. */
  server: string;
  /** Called before every step, with its place in {@link steps}. */
  onStep: (index: number) => void | Promise<void>;
  /** Stops the agent in an orderly way and leaves the datapath as it is. The end of the test does this too. */
  stop(): Promise<void>;
}

/** A cluster takes up to ten seconds after each kill until all streams have leaders. */
const STRIDE = SLOWNESS === 1 ? 1 : 4;
const CONNECTED = new Set(['connected to NATS', 'NATS connection restored']);

/** Starts an agent within this process. It may still be joining the bus; it keeps trying while the broker is away. */
async function startWithin(bed: BusBed, natsUrl: string, datapath = newDatapath(bed)): Promise<Within> {
  const { config } = loadConfig({
    env: {
      L3AF_HOST_NAME: HOST,
      L3AF_STATE_DIR: bed.stateDir,
      L3AF_BPFFS: join(bed.dir, 'bpffs'),
      L3AF_REPO_URL: bed.repoUrl,
      L3AF_PLATFORM: PLATFORM,
      L3AF_NATS_URL: natsUrl,
      L3AF_METRICS_ADDR: 'off',
      L3AF_RECONCILE_INTERVAL: '1s',
    },
  });
  const messages: string[] = [];
  const write = (line: string) => {
    const { msg, server } = JSON.parse(line) as { msg: string; server?: string };
    messages.push(msg);
    if (CONNECTED.has(msg)) within.server = server ?? '';
  };
  const steps: string[] = [];
  const observer: Observer = async (step) => {
    steps.push(describeStep(step));
    await within.onStep(steps.length - 1);
  };
  const daemon = new Daemon({
    config,
    version: '0.0.0',
    log: createLogger({ level: 'debug', host: HOST, destination: { write } }),
    datapath,
    detectFeatures: async () => ({}),
    observer,
    onFatal: (error) => {
      throw error;
    },
  });
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= daemon.stop(false);
    return stopped;
  };
  const within: Within = { datapath, steps, messages, server: '', onStep: () => undefined, stop };
  bed.atEnd(stop);
  await daemon.start();
  return within;
}

function newDatapath({ dir }: BusBed): MemoryDatapath {
  return new MemoryDatapath({ bpffs: join(dir, 'bpffs'), interfaces: new Map([[IFACE, 1]]) });
}

function untilReady({ messages }: Within): Promise<void> {
  return until('the agent to take commands', () => messages.includes('taking commands'));
}

/**
 * Kills a server and starts it again at once. The restart takes longer than a command. Of a cluster it is one of three,
 * which may be the leader of some streams: killed whole, it would have no leaders for half a minute, each time.
 */
async function strike(member: Member): Promise<void> {
  await member.kill('SIGKILL');
  await member.restart();
}

async function assertAnsweredOnce({ controller }: BusBed, ids: readonly string[]): Promise<void> {
  const acks = await controller.acks();
  assert.deepEqual(
    acks.map(({ id }) => id),
    ids,
    'one acknowledgement for each command, in their order',
  );
  assert.deepEqual(
    acks.filter(({ status }) => status !== 'applied'),
    [],
  );
}

test('when the broker is killed before any step of a command, no acknowledgement is lost or sent twice, and no step is repeated', async (t) => {
  const bed = await givenBusBed(t);
  const { controller, server } = bed;
  const agent = await startWithin(bed, server.url);
  await untilReady(agent);
  const ids: string[] = [];
  const stepsTo = async (state: unknown): Promise<string[]> => {
    const before = agent.steps.length;
    const { id } = await controller.send('deploy', state);
    ids.push(id);
    return agent.steps.slice(before).map((step) => step.replaceAll(/#\d+/g, '#'));
  };
  await stepsTo(ONE);
  const undisturbed = [await stepsTo(OTHER), await stepsTo(ONE)];
  await controller.untilSettled();

  const most = Math.max(...undisturbed.map((steps) => steps.length));
  assert.ok(most > 8, `${most} steps`);
  let strikes = 0;
  for (let index = 0; index < most; index += STRIDE) {
    for (const [turn, state] of [OTHER, ONE].entries()) {
      if (index >= undisturbed[turn]!.length) continue;
      const target = agent.steps.length + index;
      let struck: Promise<void> | undefined;
      agent.onStep = async (now) => {
        if (now !== target) return;
        const victim = server.memberAt(agent.server);
        await victim.kill('SIGKILL');
        struck = victim.restart();
      };
      assert.deepEqual(await stepsTo(state), undisturbed[turn], `with the broker killed before step ${index}`);
      assert.ok(struck !== undefined, 'the broker was killed');
      strikes += 1;
      await struck;
      await controller.untilSettled();
    }
  }

  await assertAnsweredOnce(bed, ids);
  assert.equal(agent.messages.filter((message) => message === 'applying command').length, ids.length);
  const losses = agent.messages.filter((message) => message === 'NATS connection lost; reconnecting').length;
  assert.ok(losses >= strikes, `${losses} connections lost with ${strikes} kills`);
});

const EXCHANGES = [
  ['the acknowledgement', /^HPUB l3af\.ack\./, undefined],
  ['the snapshot', /^H?PUB \$KV\.L3AF_STATE\./, undefined],
  ['the JetStream ack of the command', /^PUB \$JS\.ACK\./, undefined],
  // The answer is a command. Its reply subject is the subject for its acknowledgement.
  ['the request for the next command', /^PUB \$JS\.API\.CONSUMER\.MSG\.NEXT\./, '$JS.ACK.'],
] as const;

for (const [what, line, answer] of EXCHANGES) {
  for (const when of ['before', 'after'] as const) {
    const place = when === 'before' ? `before it receives ${what}` : `after it has answered ${what}`;
    test(`when the broker is killed ${place}, no acknowledgement is lost or sent twice`, async (t) => {
      const bed = await givenBusBed(t);
      const { controller, server } = bed;
      const proxy = new BrokerProxy(server.port);
      bed.atEnd(() => proxy.stop());
      const agent = await startWithin(bed, await proxy.start());
      await untilReady(agent);
      const { id: before } = await controller.send('deploy', ONE);
      await controller.untilSettled();

      const struck = proxy.arm({ line, when, answer, strike: () => strike(server.members[0]) });
      const { id: first } = await controller.publish('deploy', OTHER);
      const { id: second } = await controller.publish('deploy', ONE);
      await struck;
      await controller.ackOf(second);
      await controller.untilSettled();

      await assertAnsweredOnce(bed, [before, first, second]);
      assert.equal(agent.messages.filter((message) => message === 'applying command').length, 3);
    });
  }
}

test('while the broker is away, the chain stays and is repaired; commands sent after its return are served', async (t) => {
  const bed = await givenBusBed(t);
  const { controller, server } = bed;
  const agent = await startWithin(bed, server.url);
  await untilReady(agent);
  await controller.send('deploy', ONE);
  await server.kill('SIGKILL');

  const { attachments } = (await agent.datapath.observe()).hooks[0]!;
  await agent.datapath.detach(HOOK, attachments[0]!.linkPin);
  await until('the chain to be mended', async () => pathAt(await agent.datapath.observe(), HOOK) !== undefined);
  assert.deepEqual(pathAt(await agent.datapath.observe(), HOOK), ['port-count@1_0', 'port-drop@1_0']);

  await server.restart();
  assert.equal((await controller.send('deploy', OTHER)).status, 'applied');
  assert.deepEqual(pathAt(await agent.datapath.observe(), HOOK), ['port-count@2_0', 'rate-limit@1_0']);
  const { message } = await controller.untilEvent('drift-repaired');
  assert.match(message, /lo\/xdpingress/);
});

test('when the broker returns, the next agent sends the answers that a stopped agent could not send, in order', async (t) => {
  const bed = await givenBusBed(t);
  const { controller, server } = bed;
  const first = await startWithin(bed, server.url);
  await untilReady(first);
  const { id } = await controller.send('deploy', OTHER);
  await first.stop();
  const missed = await controller.publishAll(
    Array.from({ length: 50 }, (_, index) => ['deploy', index % 2 === 0 ? OTHER : ONE]),
  );
  const dying = await startWithin(bed, server.url, first.datapath);
  dying.onStep = () => server.kill('SIGKILL');
  await until('the commands to be applied', async () => {
    const path = pathAt(await dying.datapath.observe(), HOOK);
    return path?.join() === 'port-count@1_0,port-drop@1_0';
  });
  await dying.stop();

  const heir = await startWithin(bed, server.url, dying.datapath);
  assert.deepEqual(heir.steps, [], 'the chain stands as it should');
  await server.restart();
  await untilReady(heir);
  await controller.ackOf(missed.at(-1)!);

  assert.deepEqual(
    (await controller.acks()).map((ack) => ack.id),
    [id, ...missed],
  );
  assert.deepEqual(heir.steps, [], 'nothing was done again');
  await controller.untilSettled();
});

for (const [when, line] of [
  ['joining the bus', /^PUB \$JS\.API\.STREAM\.INFO\.L3AF_ACK/],
  ['registering', /^H?PUB \$KV\.L3AF_HOSTS\./],
] as const) {
  test(`an agent that lost its broker while ${when} can be stopped`, async (t) => {
    const bed = await givenBusBed(t);
    const { server } = bed;
    const proxy = new BrokerProxy(server.port);
    bed.atEnd(() => proxy.stop());
    const url = await proxy.start();
    const struck = proxy.arm({ line, when: 'before', strike: () => server.kill('SIGKILL') });
    const agent = await startWithin(bed, url);
    await struck;

    await agent.stop();

    assert.equal(agent.messages.at(-1), 'stopped');
  });
}

test('an agent that loses its broker during a command finishes the command, can be stopped, and answers at the next start', async (t) => {
  const bed = await givenBusBed(t);
  const { controller, server } = bed;
  const agent = await startWithin(bed, server.url);
  await untilReady(agent);
  let stopped: Promise<void> | undefined;
  agent.onStep = async () => {
    await server.kill('SIGKILL');
    stopped ??= agent.stop();
  };
  const { id } = await controller.publish('deploy', ONE);
  await until('the stop to be asked for', () => stopped !== undefined);
  await stopped;
  assert.deepEqual(pathAt(await agent.datapath.observe(), HOOK), ['port-count@1_0', 'port-drop@1_0']);

  await server.restart();
  const heir = await startWithin(bed, server.url, agent.datapath);
  assert.equal((await controller.ackOf(id)).status, 'applied');
  assert.deepEqual(heir.steps, []);
  await controller.untilSettled();
});
