import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { ATTACH_POINTS } from '../../../src/domain/attach-points/registry.js';
import { DIRECTIONS, type Direction } from '../../support/directions.js';

import { type PackageName, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { repeats } from '../../support/repeats.js';
import { assertChain, mapOf, resultsOf } from '../support/chain.js';
import { attachedXdp, type Member, numberIn, readKernel } from '../support/kernel.js';
import { DISCARD_PORT, eventually, Stage } from '../support/stage.js';

/*
 * Chaining off: each hook has one program, which is attached directly, without a root.
 */

const UPDATES = repeats({ usual: 6, full: 20 });
/** Packets per second. */
const RATE = 3_000;

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'single', env: { L3AF_CHAINING: 'false' } });
});
after(() => stage.close());

function marker(direction: Direction, number: number, changes: Partial<PayloadProgram> = {}): PayloadProgram {
  const name = `${direction === 'xdpingress' ? 'xdp' : 'tc'}-mark-${number}` as PackageName;
  return { ...payloadProgram(name, { seq_id: number, ...changes }), ...COUNTER_STAYS };
}

/** All versions count in the same map. */
const COUNTER_STAYS = { carry_maps: ['mark_packets'] };

const deploy = (direction: Direction, ...programs: PayloadProgram[]) =>
  stage.deploy({ [ATTACH_POINTS[direction].payloadList]: programs });

async function membersAt(direction: Direction): Promise<readonly Member[]> {
  return (await stage.chain(direction))?.members ?? [];
}

async function names(direction: Direction): Promise<string[]> {
  return (await membersAt(direction)).map(({ name, version }) => `${name}@${version.replaceAll('_', '.')}`);
}

/** Sends packets while something happens, and asserts that the last program at each hook counts each of them once. */
async function underTraffic(directions: readonly Direction[], happens: () => Promise<void>): Promise<void> {
  const counted = () =>
    Promise.all(
      directions.map(async (direction) => {
        const last = (await membersAt(direction)).at(-1) ?? assert.fail(`nothing runs at ${direction}`);
        return (await numberIn(mapOf(stage, last, 'mark_packets'))) ?? 0;
      }),
    );
  const [countedBefore, lostBefore] = [await counted(), await stage.bed.lost()];
  const [isIn, isOut] = [directions.some((at) => at !== 'egress'), directions.includes('egress')];
  const incoming = isIn ? await stage.startTraffic(DISCARD_PORT, RATE) : undefined;
  const outgoing = isOut ? await stage.startTraffic(DISCARD_PORT, RATE, 'egress') : undefined;

  await happens();

  const [received, sent] = [(await incoming?.stop()) ?? 0, (await outgoing?.stop()) ?? 0];
  // Packets that the ring of the far end drops never reach our hooks. Packets that we send have passed our hooks
  // before.
  const arrived = received - ((await stage.bed.lost()) - lostBefore);
  const expected = countedBefore.map((count, at) => count + (directions[at] === 'egress' ? sent : arrived));
  await eventually(counted, (counts) => counts.every((count, at) => count >= expected[at]!), `${expected} counted`);
  assert.deepEqual(await counted(), expected);
}

for (const direction of DIRECTIONS) {
  describe(`with chaining off, at ${direction}`, () => {
    afterEach(() => stage.deploy({}));

    test('a program is attached directly, and a new version replaces it without missing a packet', async () => {
      const started = await deploy(direction, marker(direction, 1));
      assert.equal(started.status, 'applied', started.message);
      const [only, ...others] = await membersAt(direction);
      assert.deepEqual([only?.name, others], [`${direction === 'xdpingress' ? 'xdp' : 'tc'}-mark-1`, []]);
      assert.equal(started.programs[0]?.prog_id, only?.programId);
      if (direction === 'xdpingress') assert.equal(await attachedXdp(stage.bed.iface), only?.programId);
      const linkId = (await stage.chain(direction))?.linkId;

      await underTraffic([direction], async () => {
        for (let update = 1; update <= UPDATES; update++) {
          const version = update % 2 === 1 ? '2.0' : '1.0';
          const { status, message, programs } = await deploy(direction, marker(direction, 1, { version }));
          assert.equal(status, 'applied', message);
          assert.deepEqual([programs[0]?.version, programs[0]?.result], [version, 'updated']);
        }
      });

      const chain = await stage.chain(direction);
      assert.equal(chain?.linkId, linkId, 'one link has held all versions');
      assert.deepEqual(await stage.leaked(await stage.kernel()), []);
    });

    test('map_args change without loading a program, and a second program is refused', async () => {
      await deploy(direction, marker(direction, 1));
      const [{ programId, ...before } = assert.fail()] = await membersAt(direction);
      const seven = [{ name: 'mark_id', args: [{ key: 0, value: 7 }] }];

      const changed = await deploy(direction, marker(direction, 1, { map_args: seven }));
      assert.deepEqual(Object.values(resultsOf(changed)), ['updated']);
      assert.equal(await numberIn(mapOf(stage, { programId, ...before }, 'mark_id')), 7);
      const standing = await stage.kernel();

      const list = ATTACH_POINTS[direction].payloadList;
      for (const refused of [
        await stage.add({ [list]: [marker(direction, 2)] }),
        await deploy(direction, marker(direction, 1), marker(direction, 2)),
      ]) {
        assert.deepEqual([refused.status, refused.code], ['rejected', 'CHAINING_OFF']);
        assert.match(refused.message ?? '', new RegExp(`${stage.bed.iface}/${direction} holds one program.*-mark-1`));
      }
      assert.deepEqual(await stage.kernel(), standing);
    });

    test('another program replaces the first, and nothing is left of the last one', async () => {
      await deploy(direction, marker(direction, 1));

      const { status, programs } = await deploy(direction, marker(direction, 2));
      assert.equal(status, 'applied');
      assert.deepEqual(Object.values(resultsOf({ programs })).toSorted(), ['started', 'stopped']);
      assert.equal((await membersAt(direction)).length, 1);

      const list = ATTACH_POINTS[direction].payloadList;
      const removed = await stage.delete({ [list]: [marker(direction, 2).name] });
      assert.deepEqual(Object.values(resultsOf(removed)), ['stopped']);
      const state = await stage.kernel();
      assert.deepEqual(state.entries, []);
      assert.deepEqual(await stage.leaked(state), []);
    });
  });
}

test('chaining is switched on and off by restarts, and the programs stay and miss no packet', async () => {
  // given programs that are attached directly
  const programs = {
    xdp_ingress: [marker('xdpingress', 1)],
    tc_ingress: [marker('ingress', 1)],
    tc_egress: [marker('egress', 2)],
  };
  await stage.deploy(programs);
  const idsAt = async (direction: Direction) => (await membersAt(direction)).map(({ programId }) => programId);
  const before = await Promise.all(DIRECTIONS.map(idsAt));
  assert.deepEqual(
    before.map(({ length }) => length),
    [1, 1, 1],
  );

  await underTraffic(DIRECTIONS, async () => {
    // when chaining is switched on, then each program is behind a root, and is the same one
    await stage.restart({ L3AF_CHAINING: 'true' });
    const behindRoots = await Promise.all(DIRECTIONS.map(idsAt));
    assert.deepEqual(
      behindRoots.map(([, ...members]) => members),
      before,
    );

    // and when it is switched off, then the programs are without a root again
    await stage.restart();
    assert.deepEqual(await Promise.all(DIRECTIONS.map(idsAt)), before);
  });
  assert.equal((await stage.deploy(programs)).status, 'unchanged');
  assert.deepEqual(await stage.leaked(await stage.kernel()), []);
  await stage.deploy({});
});

test('a chain of two stays when chaining is switched off, until a deploy names only one of them', async () => {
  // given two programs at one hook and one at another
  await stage.restart({ L3AF_CHAINING: 'true' });
  const [one, two] = [marker('xdpingress', 1), marker('xdpingress', 2)];
  await stage.deploy({ xdp_ingress: [one, two], tc_egress: [marker('egress', 3)] });
  const [, , second] = (await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0'])).members;

  // when chaining is switched off
  await stage.restart();

  // then the hook with one program no longer has a root, and the hook with two is not touched
  assert.deepEqual(await names('egress'), ['tc-mark-3@1.0']);
  await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0']);
  assert.ok(stage.agent.logs().some(({ level, msg }) => level === 'error' && msg.includes('desired state')));

  // and when only one of the two is deployed, then it is attached directly, under traffic
  await underTraffic(['xdpingress'], async () => {
    const { status, message } = await stage.deploy({ xdp_ingress: [two] });
    assert.equal(status, 'applied', message);
  });
  assert.deepEqual(
    (await membersAt('xdpingress')).map(({ programId }) => programId),
    [second?.programId],
  );
  await stage.deploy({});
  assert.deepEqual((await readKernel(stage.bpffs)).entries, []);
});
