import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { payloadProgram } from '../../support/packages.js';
import { repeats } from '../../support/repeats.js';
import { namesOf, numberIn, pathsIn, programIdsOf } from '../support/kernel.js';
import { DISCARD_PORT, eventually, PROBE_PORT, Stage } from '../support/stage.js';

/*
 * A program in the middle of a chain is replaced again and again under traffic. No packet may miss a program.
 */

const UPDATES = repeats({ usual: 24, full: 100 });
/** Packets per second. */
const ORDINARY_RATE = 6_000;
const PROBE_RATE = 3_000;
/** The mark of the middle program in the trail of a probe, by version. */
const MIDDLE_MARK = { '1.0': 2, '2.0': 12 } as const;

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'updates' });
});
after(() => stage.close());

function chainWith(version: keyof typeof MIDDLE_MARK) {
  const mapArgs = [{ name: 'mark_id', args: [{ key: 0, value: MIDDLE_MARK[version] }] }];
  return {
    xdp_ingress: [
      payloadProgram('xdp-mark-1', { seq_id: 1 }),
      payloadProgram('xdp-mark-2', { seq_id: 2, version, map_args: mapArgs }),
      payloadProgram('xdp-mark-3', { seq_id: 3 }),
    ],
  };
}

test(`${UPDATES} updates of the middle program under traffic make no program miss a packet, and leave nothing`, async () => {
  // given a chain of three programs, and two streams of packets through it
  await stage.deploy(chainWith('1.0'));
  const [chainBefore, stateBefore] = [await stage.chain(), await stage.kernel()];
  const ordinary = await stage.startTraffic(DISCARD_PORT, ORDINARY_RATE);
  const probes = await stage.startTraffic(PROBE_PORT, PROBE_RATE);

  // when the middle one is updated back and forth
  for (let update = 1; update <= UPDATES; update++) {
    const version = update % 2 === 1 ? '2.0' : '1.0';
    const { status, programs } = await stage.deploy(chainWith(version));
    assert.equal(status, 'applied');
    assert.deepEqual(
      programs.map(({ result }) => result),
      ['unchanged', 'updated', 'unchanged'],
    );
    await stage.kernel();
  }
  const sent = { ordinary: await ordinary.stop(), probes: await probes.stop() };

  // then each program has counted all packets that were sent, except for those that the wire itself has lost
  const count = async (name: string, map: string) => (await numberIn(stage.xdpMap(name, '1.0', map))) ?? 0;
  const arrived = sent.ordinary + sent.probes - (await stage.bed.lost());
  const countedBy = async (name: string) => (await count(name, 'mark_packets')) + (await count(name, 'mark_seen'));
  await eventually(
    () => countedBy('xdp-mark-3'),
    (counted) => counted >= arrived,
    `the last program should have counted ${arrived} packets`,
  );
  assert.equal(await countedBy('xdp-mark-1'), arrived);
  assert.equal(await countedBy('xdp-mark-3'), arrived);
  for (const map of ['mark_packets', 'mark_seen']) {
    const first = await count('xdp-mark-1', map);
    assert.ok(first > 0);
    assert.equal(await count('xdp-mark-3', map), first, `${map} of the last program`);
  }

  // and every probe took the old path or the new one, and so passed one version of the middle program
  const paths = await pathsIn(stage.xdpMap('xdp-mark-3', '1.0', 'mark_paths'));
  const ways = Object.values(MIDDLE_MARK).map((mark) => `1-${mark}-3`);
  assert.deepEqual(Object.keys(paths).toSorted(), ways.toSorted());
  assert.equal(
    Object.values(paths).reduce((sum, probesByPath) => sum + probesByPath, 0),
    await count('xdp-mark-3', 'mark_seen'),
  );

  // and the neighbours were never reloaded
  const chainAfter = await stage.chain();
  assert.deepEqual(namesOf(chainAfter), ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0']);
  const { 'xdp-mark-2': middleBefore, ...othersBefore } = programIdsOf(chainBefore);
  const { 'xdp-mark-2': middleAfter, ...othersAfter } = programIdsOf(chainAfter);
  assert.deepEqual(othersAfter, othersBefore);
  assert.notEqual(middleAfter, middleBefore);
  assert.equal(chainAfter?.linkId, chainBefore?.linkId);

  // and only the programs, maps, links and pins of the last version exist
  const stateAfter = await stage.kernel();
  assert.deepEqual(stateAfter.entries, stateBefore.entries);
  assert.deepEqual(await stage.leaked(stateAfter), []);
});
