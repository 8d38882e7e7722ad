import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type LoadedObject, PrivateBpffs, u32 } from '../../support/bpftool.js';
import { DIRECTIONS, type Direction } from '../../support/directions.js';
import { builtObject } from '../../support/project.js';
import { repeats } from '../../support/repeats.js';
import { run } from '../../support/tool.js';
import { loadedMap } from '../support/chain.js';
import { pathsIn } from '../support/kernel.js';
import { eventually, PROBE_PORT, Stage } from '../support/stage.js';
import { chainOf } from '../support/transition-kinds.js';

/*
 * The first program is added with the root and the link, and the last one is removed with them. Foreign witnesses
 * behind the agent's hooks see that the interface lets every packet through meanwhile.
 */

const TIMES = repeats({ usual: 3, full: 10 });
/** Packets per second, each way. */
const RATE = 2_000;
const TC = ['ingress', 'egress'] as const;
/** The marks of the witnesses in the trail of a probe. */
const WITNESS = { ingress: 7, egress: 8 } as const;

let stage: Stage;
const foreign = new PrivateBpffs();
before(async () => {
  stage = await Stage.open({ host: 'first-last' });
  await foreign.mount();
});
after(async () => {
  await stage.close();
  await foreign.unmount();
});

/** Attaches a marker as a clsact filter, which runs after the agent's TCX programs. */
async function attachWitness(direction: (typeof TC)[number]): Promise<LoadedObject> {
  const witness = await foreign.load(builtObject('tc_mark'), 'classifier');
  await witness.write('mark_id', u32(0), u32(WITNESS[direction]));
  const place = ['dev', stage.bed.iface, direction, 'protocol', 'all', 'prio', '1'];
  const program = ['bpf', 'direct-action', 'object-pinned', witness.programPin('tc_mark')];
  await run('tc', ['filter', 'add', ...place, ...program]);
  return witness;
}

test('the first program is added and the last one is removed at three hooks, and no packet is lost', async (t) => {
  await run('tc', ['qdisc', 'add', 'dev', stage.bed.iface, 'clsact']);
  const witnesses = { ingress: await attachWitness('ingress'), egress: await attachWitness('egress') };
  const seen = new Map<Direction, number>(DIRECTIONS.map((direction) => [direction, 0]));
  const traffic = {
    ingress: await stage.startTraffic(PROBE_PORT, RATE, 'ingress'),
    egress: await stage.startTraffic(PROBE_PORT, RATE, 'egress'),
  };

  // when a program is added to each hook and removed again
  for (let time = 1; time <= TIMES; time++) {
    const [xdp, ingress, egress] = DIRECTIONS.map((direction) => chainOf(direction, [1]));
    const first = await stage.deploy({ xdp_ingress: xdp!, tc_ingress: ingress!, tc_egress: egress! });
    assert.equal(first.status, 'applied', first.message);
    for (const direction of DIRECTIONS) {
      const [program] = chainOf(direction, [1]);
      const ways = await pathsIn(await loadedMap(stage, direction, program!.name, 'mark_paths'));
      assert.ok(
        Object.keys(ways).every((way) => way === '1'),
        JSON.stringify(ways),
      );
      seen.set(direction, seen.get(direction)! + (ways['1'] ?? 0));
    }
    assert.equal((await stage.deploy({})).status, 'applied');
    assert.deepEqual((await stage.kernel()).entries, []);
  }

  // then the witnesses have seen all packets
  const sent = { ingress: await traffic.ingress.stop(), egress: await traffic.egress.stop() };
  const packets = { ingress: sent.ingress - (await stage.bed.lost()), egress: sent.egress };
  for (const direction of TC) {
    const counted = () => witnesses[direction].counter('mark_seen');
    await eventually(
      counted,
      (count) => count >= packets[direction],
      `${packets[direction]} packets should come through`,
    );
    assert.equal(await counted(), packets[direction], direction);
  }
  t.diagnostic(`packets ${JSON.stringify(packets)}, seen ${JSON.stringify(Object.fromEntries(seen))}`);
  assert.ok(seen.get('xdpingress')! > 0);

  // and each packet says whether it has passed the program, once at most
  for (const direction of TC) {
    const [alone, together] = [WITNESS[direction], (1 << 8) | WITNESS[direction]];
    const ways = new Map((await witnesses[direction].entries('mark_paths')).map(({ key, value }) => [key, value]));
    assert.deepEqual(new Set(ways.keys()), new Set([alone, together]));
    // The counter of the program was read before the program was removed.
    assert.ok(ways.get(together)! >= seen.get(direction)!);
  }
});
