import assert from 'node:assert/strict';
import { unlink } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import type { PayloadProgram } from '../../support/packages.js';
import { resultsOf } from '../support/chain.js';
import { bpftool } from '../support/kernel.js';
import { DISCARD_PORT, eventually, PROBE_PORT, Stage } from '../support/stage.js';
import { countOf, furtherLinks, markers, TAIL_PACKAGES, waysTo } from '../support/tails.js';

/*
 * TC programs without a slot can have successors, in the order of their seq_id: TCX runs one program after the other.
 */

let stage: Stage;
before(async () => {
  const env = { L3AF_RECONCILE_INTERVAL: '200ms', L3AF_LOG_LEVEL: 'debug' };
  stage = await Stage.open({ host: 'slotless', packages: TAIL_PACKAGES, env });
});
after(() => stage.close());

const PROBES = 10;

type Direction = 'ingress' | 'egress';

/** Removes everything before a test begins, so that its counters and paths are its own. */
async function start(words: string, direction: Direction = 'ingress'): Promise<void> {
  await change('', direction);
  assert.equal((await change(words, direction)).status, words === '' ? 'unchanged' : 'applied');
}

function change(words: string, direction: Direction = 'ingress'): Promise<Acknowledgement> {
  return stage.deploy({ [direction === 'ingress' ? 'tc_ingress' : 'tc_egress']: markers(words) });
}

/** Sends probes, and asserts that each reaches the last marker by the path of the chain. */
async function assertWay(words: string, direction: Direction = 'ingress'): Promise<void> {
  const chain = markers(words);
  const last = chain.at(-1)!;
  const way = chain.map(numberOf).join('-');
  const before = (await waysTo(stage, last))[way] ?? 0;
  const send = direction === 'ingress' ? stage.receive.bind(stage) : stage.transmit.bind(stage);
  await send(PROBES, PROBE_PORT);
  const taken = (ways: Record<string, number>) => ways[way] ?? 0;
  const ways = await eventually(
    () => waysTo(stage, last),
    (now) => taken(now) >= before + PROBES,
    `probes should go ${way}`,
  );
  assert.equal(taken(ways), before + PROBES);
}

/** Asserts that so many programs run, and that packets can reach each. */
async function assertRuns(count: number): Promise<void> {
  await eventually(
    () => stage.fleet.request(stage.host, 'status', {}),
    ({ hooks }) => hooks.every(({ attached, running }) => attached && running === count),
    `${count} programs should run`,
  );
}

function numberOf({ map_args: mapArgs }: PayloadProgram): number {
  return Number(mapArgs[0]?.args[0]?.value);
}

for (const direction of ['ingress', 'egress'] as const) {
  test(`at ${direction} packets pass programs without slots in the order of their seq_id, and those with slots between them`, async () => {
    await start('3 1 2', direction);
    await assertWay('3 1 2', direction);

    await change('3 +5 1 +4 2', direction);
    await assertWay('3 +5 1 +4 2', direction);

    await change('+5 +4', direction);
    await assertWay('+5 +4', direction);
    assert.equal((await furtherLinks(stage)).size, 0);
  });
}

test('a verdict ends the chain, as it does for every TCX program', async () => {
  await start('1 2! 3');
  const [, accepts, behind] = markers('1 2! 3') as [PayloadProgram, PayloadProgram, PayloadProgram];

  await stage.receive(PROBES, PROBE_PORT);

  await eventually(
    () => countOf(stage, accepts, 'mark_seen'),
    (count) => count === PROBES,
    'probes should come to the program that accepts them',
  );
  assert.equal(await countOf(stage, behind, 'mark_seen'), 0);
});

test('under traffic, the programs that stay see every packet during every change', async () => {
  // given a chain that keeps programs 1 and 2 during all changes
  const changes = ['1 3 2', '1 +4 2', '+4 1 2', '1 2 +4', '1 2', '5 1 +4 3 2', '1 3@2.0 2', '1 2'];
  await start('1 2');
  const [first, last] = markers('1 2') as [PayloadProgram, PayloadProgram];
  const traffic = await stage.startTraffic(DISCARD_PORT, 2_000);

  // when other programs are added and removed
  const results = [];
  for (const words of changes) results.push((await change(words)).status);

  // then both have seen each packet, at most one of them twice while links were changed
  assert.deepEqual([...new Set(results)], ['applied']);
  const sent = (await traffic.stop()) - (await stage.bed.lost());
  for (const program of [first, last]) {
    await eventually(
      () => countOf(stage, program, 'mark_packets'),
      (count) => count >= sent,
      `${program.name} should have seen ${sent} packets`,
    );
  }
  await assertWay('1 2');
});

test('a change in one place is one write, so that no packet is seen twice', async () => {
  // given programs with and without slots
  await start('1 +2 3 4');
  const [first, , , last] = markers('1 +2 3 4') as [PayloadProgram, PayloadProgram, PayloadProgram, PayloadProgram];
  const traffic = await stage.startTraffic(DISCARD_PORT, 2_000);

  // when a link is added, a link is removed, a program is replaced and another one in a slot is replaced
  for (const words of ['1 +2 3 5 4', '1 +2 3 4', '1 +2 3@2.0 4', '1 +2@2.0 3@2.0 4']) {
    assert.equal((await change(words)).status, 'applied');
  }

  // then the other programs have counted every packet once
  const sent = (await traffic.stop()) - (await stage.bed.lost());
  for (const program of [first, last]) {
    await eventually(
      () => countOf(stage, program, 'mark_packets'),
      (count) => count >= sent,
      `${program.name} should have seen ${sent} packets`,
    );
    assert.equal(await countOf(stage, program, 'mark_packets'), sent);
  }
});

test('the acknowledgement and the snapshot report each program', async () => {
  await start('1 +2 3');

  const { programs } = await change('1 4 +2 3@2.0');

  assert.deepEqual(resultsOf({ programs }), {
    'tc-tail-1': 'unchanged',
    'tc-tail-4': 'started',
    'tc-mark-2': 'moved',
    'tc-tail-3': 'updated',
  });
  const { IngressTCBpfs } = await stage.fleet.request(stage.host, 'state', {});
  const told = IngressTCBpfs[stage.bed.iface]!.map(({ Program, Link }) => `${Program.name} ${Link}`);
  assert.deepEqual(told, ['tc-root true', 'tc-tail-1 false', 'tc-tail-4 true', 'tc-mark-2 true', 'tc-tail-3 false']);
});

test('a link that somebody has detached is attached again, where it was', async () => {
  await start('1 +2 3 4');
  const link = (await furtherLinks(stage)).get('tc-mark-2')!;

  await bpftool('link', 'detach', 'pinned', link);

  await assertRuns(4);
  await assertWay('1 +2 3 4');
});

test('a link that somebody has unpinned is created again, and the counters continue', async () => {
  await start('1 2 3');
  await assertWay('1 2 3');

  await unlink((await furtherLinks(stage)).get('tc-tail-2')!);

  await eventually(
    () => furtherLinks(stage),
    (links) => links.has('tc-tail-2'),
    'there should be another link',
  );
  await assertWay('1 2 3');
  assert.equal(await countOf(stage, markers('1 2 3')[1]!, 'mark_seen'), 2 * PROBES);
});

test('an interface that is deleted and created again gets all links back, in order', async () => {
  await start('3 +1 2');

  await stage.bed.recreate();

  await assertRuns(3);
  await assertWay('3 +1 2');
});

test('when an agent is killed in the middle of a change, the next one completes it', async () => {
  await start('1 2');
  const states = ['1 3 +4 2', '2 1 3', '+4 3 1 2', '1 2'];
  for (const [round, words] of states.entries()) {
    // given an agent that is killed at some step
    const lines = stage.agent.logs().length + 8 + 5 * round;
    const { id } = await stage.fleet.publish('deploy', stage.host, stage.payload({ tc_ingress: markers(words) }));
    await eventually(
      async () => stage.agent.logs(),
      (logs) => logs.length >= lines || logs.some(({ op, status }) => op === id && status !== undefined),
      'the agent should be at work',
    );
    await stage.agent.kill('SIGKILL');

    // when the next agent starts
    await stage.agent.start();

    // then the command has its answer, and packets take the requested path
    const acks = await eventually(
      () => stage.fleet.acks(stage.host, { limit: 100 }),
      (all) => all.some((ack) => ack.id === id),
      'the command should be answered',
    );
    assert.match(acks.find((ack) => ack.id === id)!.status, /^(applied|unchanged)$/);
    await assertWay(words);
    assert.deepEqual(await stage.leaked(await stage.kernel()), []);
  }
});

test('a host that attaches by filter refuses successors of a program without a slot, and says why', async () => {
  // given an agent that is configured not to use TCX
  await start('');
  await stage.agent.stop();
  const filtering = stage.successor(['--tc-mode', 'clsact']);
  await filtering.start();

  // when a program without a slot gets a successor
  const { status, errors } = await change('1 2');

  // then that is refused, but a program without a slot at the end is accepted
  assert.equal(status, 'rejected');
  assert.deepEqual(
    errors.map(({ code, path }) => `${code} ${path}`),
    ['INVALID_FIELD 0.bpf_programs.tc_ingress.0.map_name'],
  );
  assert.match(errors[0]!.message, /by filter/);
  assert.equal((await change('+1 2')).status, 'applied');
  await assertWay('+1 2');

  // and an agent that may use TCX again switches to it
  await filtering.stop();
  await stage.agent.start();
  assert.equal((await change('+1 2 3')).status, 'applied');
  await assertWay('+1 2 3');
});
