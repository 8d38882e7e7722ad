import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ReplyOf } from '../../../src/messages/requests.js';
import { payloadProgram } from '../../support/packages.js';
import { noteMade } from '../../support/this-run.js';
import { run } from '../../support/tool.js';
import { sendPackets } from '../../support/traffic.js';
import { numberIn, programIdsOf } from '../support/kernel.js';
import { eventually, Stage } from '../support/stage.js';

/*
 * When an interface disappears, its chain no longer runs, but it is still desired. The regular check comes once an hour
 * here. So it is the kernel's notification of the new interface that restores the chain.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'interfaces', env: { L3AF_RECONCILE_INTERVAL: '1h' } });
});
after(() => stage.close());

test('a chain is back as soon as its interface is, with the programs and counters that it had', async () => {
  const events = stage.nats.subscribe('l3af.evt.interfaces.drift-repaired')[Symbol.asyncIterator]();
  await stage.deploy({
    xdp_ingress: [payloadProgram('port-count', { seq_id: 1 }), payloadProgram('port-drop', { seq_id: 2 })],
    tc_ingress: [payloadProgram('tc-count', { seq_id: 1 })],
  });
  await stage.receive(100, 8080);
  const chains = async () => [await stage.chain('xdpingress'), await stage.chain('ingress')].map(programIdsOf);
  const standing = await chains();

  await stage.bed.recreate();

  // An observation between the deletion and the creation finds the dead links first, and removes them.
  await eventually(
    async () => ((await events.next()).value!.json() as { message: string }).message,
    (message) => message.includes('attaches the chain that is still pinned'),
    'the chains should be attached again',
  );
  assert.deepEqual(await chains(), standing, 'no program was loaded again');
  await stage.receive(50, 8080);
  const counted = await numberIn(stage.xdpMap('port-count', '1.0', 'packet_count'));
  assert.equal(counted, 150);
});

const LISTS = {
  xdp_ingress: [payloadProgram('port-count', { seq_id: 1 })],
  tc_ingress: [payloadProgram('tc-count', { seq_id: 1 })],
};

/** An interface that was down resolves addresses again, so a chain then sees a few packets more than those sent. */
async function rename(from: string, to: string): Promise<void> {
  await run('ip', ['link', 'set', from, 'down']);
  await run('ip', ['link', 'set', from, 'name', to]);
  await run('ip', ['link', 'set', to, 'up']);
}

test('the chains of a renamed interface are moved by a deploy for its new name, and back', async (t) => {
  const { iface, netns, address } = stage.bed;
  const renamed = `${iface}n`;
  noteMade(renamed);
  await stage.deploy(LISTS);
  await rename(iface, renamed);
  t.after(async () => {
    if (existsSync(`/sys/class/net/${renamed}`)) await rename(renamed, iface);
  });

  const { status, message } = await stage.send('deploy', stage.payload(LISTS, renamed));
  assert.equal(status, 'applied', message);
  for (const direction of ['xdpingress', 'ingress'] as const) {
    assert.equal(await stage.chain(direction), undefined, direction);
    assert.equal((await stage.chain(direction, renamed))?.members.length, 2, direction);
  }
  await sendPackets({ netns, address, port: 8080, rate: 1000, count: 20 });
  const counted = join(stage.bpffs, renamed, 'port-count', '1_0', 'packet_count');
  assert.ok((await numberIn(counted))! >= 20);

  await rename(renamed, iface);
  assert.equal((await stage.deploy(LISTS)).status, 'applied');
  await sendPackets({ netns, address, port: 8080, rate: 1000, count: 30 });
  assert.ok((await numberIn(stage.xdpMap('port-count', '1.0', 'packet_count')))! >= 30);
});

test('an add for the new name of an interface takes over its hooks, though the former name stays desired', async (t) => {
  const { iface, netns, address } = stage.bed;
  const renamed = `${iface}n`;
  noteMade(renamed);
  await stage.deploy(LISTS);
  /** What the programs at XDP and at TC of an interface have counted. */
  const countsAt = (at: string) =>
    Promise.all([
      numberIn(join(stage.bpffs, at, 'port-count', '1_0', 'packet_count')),
      numberIn(join(stage.bpffs, 'tc/globals', at, 'tc-count', '1_0', 'tc_packets')),
    ]);
  const standing = await countsAt(iface);
  await rename(iface, renamed);
  t.after(async () => {
    if (existsSync(`/sys/class/net/${renamed}`)) await rename(renamed, iface);
    await stage.deploy({});
  });

  const { status, message } = await stage.send('add', stage.payload(LISTS, renamed));
  await sendPackets({ netns, address, port: 8080, rate: 1000, count: 20 });

  assert.deepEqual([status, message?.includes('not ours') ?? false], ['applied', false]);
  for (const direction of ['xdpingress', 'ingress'] as const) {
    assert.equal((await stage.chain(direction, renamed))?.members.length, 2, direction);
  }
  // Each packet passes the new chain, and that alone.
  assert.deepEqual(await countsAt(iface), standing);
  const counts = await countsAt(renamed);
  assert.ok(
    counts.every((count) => (count ?? 0) >= 20),
    String(counts),
  );
});

test('an interface that has gone to another namespace gets its chains back, though a new one has its name and index', async () => {
  const { iface, netns } = stage.bed;
  await stage.deploy(LISTS);
  const index = readFileSync(`/sys/class/net/${iface}/ifindex`, 'utf8').trim();
  const events = stage.nats.subscribe('l3af.evt.interfaces.drift-repaired')[Symbol.asyncIterator]();

  await run('ip', ['link', 'set', iface, 'netns', netns.slice('/run/netns/'.length)]);
  await run('ip', ['link', 'add', iface, 'index', index, 'type', 'veth', 'peer', 'name', `${iface}p`]);

  await events.next();
  await eventually(
    async () => [(await stage.chain('xdpingress'))?.members.length, (await stage.chain('ingress'))?.members.length],
    (lengths) => lengths.every((length) => length === 2),
    'both chains should be attached to the new interface',
  );
  const { hooks } = (await stage.nats.request('l3af.req.interfaces.status')).json() as ReplyOf<'status'>;
  assert.ok(
    hooks.every(({ attached, running }) => attached && running === 1),
    JSON.stringify(hooks),
  );
  await stage.deploy({});
});
