import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { assertChain, assertLinked, assertPublicMaps, mapOf, marks } from '../support/chain.js';
import { bpftool, type Chain, type Member, numberIn, programIdsOf } from '../support/kernel.js';
import { eventually, Stage } from '../support/stage.js';

/*
 * Somebody removes pins of a running agent. Programs that still run keep their counters and tables. Each repair is
 * reported with what was found and what was done. The event ends a repair, so that the tests need not wait after it.
 */

const NAMES = ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0'];

interface Repair {
  readonly message: string;
  readonly data: { readonly found: readonly string[]; readonly repairs: readonly string[] };
}

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'unpin', env: { L3AF_RECONCILE_INTERVAL: '200ms' } });
  await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });
  await assertChain(stage, NAMES);
});
after(() => stage.close());

let chain: Chain;
beforeEach(async () => {
  await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });
  chain = await assertLinked(stage, NAMES);
});

/** Removes something below the bpffs, and waits for the agent to report its repair. */
async function removed(path: string): Promise<Repair['data']> {
  const events = stage.nats.subscribe('l3af.evt.unpin.drift-repaired', { max: 1, timeout: 20_000 });
  await stage.nats.flush();
  await rm(join(stage.bpffs, path), { recursive: true });
  for await (const event of events) {
    const { message, data } = event.json<Repair>();
    assert.equal(message, [...data.found, ...data.repairs].join('; '));
    return data;
  }
  return assert.fail('no repair was told of');
}

function matches(sentences: readonly string[], pattern: RegExp): void {
  assert.ok(
    sentences.some((sentence) => pattern.test(sentence)),
    `${pattern} is not among: ${sentences.join('; ')}`,
  );
}

const second = (): Member => chain.members[2]!;

/** The packets that a program has counted. The name of its map does not matter. */
const counted = (member: Member) => numberIn(mapOf(stage, member, 'mark_packets'));

async function mapId(path: string): Promise<number> {
  return (await bpftool<{ id: number }>('map', 'show', 'pinned', join(stage.bpffs, path))).id;
}

describe('out-of-band unpin repaired', () => {
  for (const index of [0, 2]) {
    test(`of the program at place ${index}: it keeps running, and is pinned again`, async () => {
      const member = chain.members[index]!;
      const before = await stage.kernel();

      const { found, repairs } = await removed(`${member.dir}/prog`);

      matches(found, new RegExp(`The program of ${member.name} is not pinned any more`));
      matches(repairs, new RegExp(`pin the program of ${member.name} .* again`));
      assert.deepEqual(await stage.kernel(), before, 'everything is the same one as before');
      await assertChain(stage, NAMES);
    });
  }

  test('of a data map: the agent finds it by the program that uses it, with its counters', async () => {
    const before = await stage.kernel();
    const packets = await counted(second());

    const { found, repairs } = await removed(`${second().dir}/maps/mark_packets`);

    matches(found, /map [0-9]+ of xdp-mark-2 is not pinned any more/);
    matches(repairs, /pin map [0-9]+ of xdp-mark-2 1_0 #[0-9]+ again/);
    assert.deepEqual(await stage.kernel(), before, 'everything is the same one as before');
    assert.equal(await counted(second()), packets);
  });

  test('of a data map in `map_args`: it keeps its entries, and accepts new ones', async () => {
    const before = await stage.kernel();

    await removed(`${second().dir}/maps/mark_id`);

    assert.deepEqual(await stage.kernel(), before);
    const [first, other, third] = marks([1, 2, 3]);
    const map_args = [{ name: 'mark_id', args: [{ key: 0, value: 5 }] }];
    const ack = await stage.deploy({ xdp_ingress: [first!, { ...other!, map_args }, third!] });
    assert.equal(ack.status, 'applied');
    assert.equal(await numberIn(mapOf(stage, second(), 'mark_id')), 5);
    assert.deepEqual(programIdsOf(await stage.chain()), programIdsOf(chain));
  });

  test('of a slot, which the kernel empties: its program is loaded again with its data maps', async () => {
    const packets = await counted(second());
    const map = await mapId(`${second().dir}/maps/mark_packets`);

    const { found, repairs } = await removed(`${second().dir}/slot`);

    matches(found, /The slot of xdp-mark-2 is not pinned any more/);
    matches(found, /xdp-mark-3 1\.0 is desired, but no packet passes it/);
    matches(repairs, /with the data maps that they have/);
    const [, , again] = (await stage.chain())!.members;
    assert.equal(await counted(again!), packets);
    assert.equal(await mapId(`${again!.dir}/maps/mark_packets`), map);
    await assertChain(stage, NAMES);
  });

  test('of the link: the chain is attached as it is', async () => {
    const { found, repairs } = await removed(`links/${stage.bed.iface}/xdp-root/latest/xdpingress`);

    matches(found, /The chain is not attached to .*: no link holds it/);
    matches(repairs, /attaches the chain that is still pinned/);
    assert.deepEqual(programIdsOf(await assertChain(stage, NAMES)), programIdsOf(chain));
  });

  test('of a public name: it names the same map again', async () => {
    const before = await stage.kernel();
    const name = `${stage.bed.iface}/xdp-mark-2/1_0/mark_packets`;

    const { found, repairs } = await removed(name);

    matches(found, new RegExp(`${name} does not name the map that is used`));
    matches(repairs, new RegExp(`name .*/${name}`));
    assert.deepEqual(await stage.kernel(), before);
  });

  for (const index of [0, 2]) {
    test(`of the whole directory of place ${index}: the program is loaded again, and the public names are for its maps`, async () => {
      const member = chain.members[index]!;
      const others = chain.members.filter((other) => other !== member && other !== chain.members[0]);
      const packets = await Promise.all(others.map(counted));
      const { iface } = stage.bed;

      const { found, repairs } = await removed(member.dir);

      assert.ok(found.length > 0);
      assert.ok(repairs.length > 0);
      // The agent may have checked while the directory was being removed, and then checks again.
      const why = async () => {
        try {
          const after = await assertLinked(stage, NAMES);
          assertPublicMaps(await stage.kernel(), after, { iface, direction: 'xdpingress', slot: 'mark_next' });
          const again = after.members.filter(({ name }) => others.some((other) => other.name === name));
          assert.deepEqual(await Promise.all(again.map(counted)), packets, 'the others go on counting');
          return '';
        } catch (error) {
          return String(error);
        }
      };
      await eventually(why, (reason) => reason === '', 'the chain should stand, and every map have its public name');
      await assertChain(stage, NAMES);
    });
  }
});
