import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { type LoadedObject, PrivateBpffs, u32 } from '../../support/bpftool.js';
import { ethernet, ipv4, ipv6, udp } from '../../support/packets.js';
import { builtObject } from '../../support/project.js';

/*
 * How programs of native/bpf form a chain: roots, slots, tail calls, and the markers that make a packet's path visible.
 */

const XDP_PASS = 2;
const TC_ACT_UNSPEC = 0xffff_ffff;
const PROBE = ethernet(ipv4(udp(9999)));

/**
 * Hook to the object, program and slot of its root, the marker's object, and the return value at the end of the chain.
 */
const KINDS = {
  'XDP ingress': { root: 'xdp_root', type: 'xdp', entry: 'xdp_root', marker: 'xdp_mark', verdict: XDP_PASS },
  'TC ingress': {
    root: 'tc_root',
    type: 'classifier',
    entry: 'tc_ingress_root',
    marker: 'tc_mark',
    verdict: TC_ACT_UNSPEC,
  },
  'TC egress': {
    root: 'tc_root',
    type: 'classifier',
    entry: 'tc_egress_root',
    marker: 'tc_mark',
    verdict: TC_ACT_UNSPEC,
  },
} as const;

const bpffs = new PrivateBpffs();
before(() => bpffs.mount());
after(() => bpffs.unmount());

for (const [hook, { root, type, entry, marker, verdict }] of Object.entries(KINDS)) {
  async function load(t: TestContext, object: string): Promise<LoadedObject> {
    const loaded = await bpffs.load(builtObject(object), type);
    t.after(() => loaded.unload());
    return loaded;
  }

  async function loadMarker(t: TestContext, id: number): Promise<LoadedObject> {
    const loaded = await load(t, marker);
    await loaded.write('mark_id', u32(0), u32(id));
    return loaded;
  }

  describe(`a chain at ${hook}`, () => {
    test('that is empty lets packets pass', async (t) => {
      const chain = await load(t, root);

      assert.equal((await chain.feed(PROBE, { program: entry })).retval, verdict);
    });

    test('is passed in the order of the links', async (t) => {
      // given root -> 2 -> 1 -> 3
      const chain = await load(t, root);
      const [one, two, three] = [await loadMarker(t, 1), await loadMarker(t, 2), await loadMarker(t, 3)];
      await chain.link(`${entry}_array`, two.programPin(marker));
      await two.link('mark_next', one.programPin(marker));
      await one.link('mark_next', three.programPin(marker));

      // when two probe packets arrive
      assert.equal((await chain.feed(PROBE, { program: entry })).retval, verdict);
      assert.equal((await chain.feed(ethernet(ipv6(udp(9999))), { program: entry })).retval, verdict);

      // then each marker has seen both at its position
      assert.deepEqual(await Promise.all([two, one, three].map((program) => program.counter('mark_order'))), [1, 2, 3]);
      assert.deepEqual(await Promise.all([two, one, three].map((program) => program.counter('mark_seen'))), [2, 2, 2]);
      assert.deepEqual(await three.entries('mark_paths'), [{ key: 0x02_01_03, value: 2 }]);
    });

    test('that is a loop is noticed: a marker sees more probes than were sent', async (t) => {
      const chain = await load(t, root);
      const only = await loadMarker(t, 1);
      await chain.link(`${entry}_array`, only.programPin(marker));
      await only.link('mark_next', only.programPin(marker));

      await chain.feed(PROBE, { program: entry });

      assert.ok((await only.counter('mark_seen')) > 30);
    });

    test('distinguishes ordinary traffic from probes', async (t) => {
      const chain = await load(t, root);
      const only = await loadMarker(t, 1);
      await chain.link(`${entry}_array`, only.programPin(marker));

      await chain.feed(ethernet(ipv4(udp(9))), { program: entry, repeat: 5 });
      await chain.feed(ethernet(ipv4(udp(53))), { program: entry });

      assert.equal(await only.counter('mark_packets'), 5);
      assert.equal(await only.counter('mark_seen'), 0);
      assert.equal(await only.counter('mark_order'), 0);
    });
  });
}

describe('every program', () => {
  const PROGRAMS = [
    ['port_count', 'xdp_port_count', 'port_count_next', 'xdp'],
    ['port_drop', 'xdp_port_drop', 'port_drop_next', 'xdp'],
    ['port_drop_v2', 'xdp_port_drop', 'port_drop_next', 'xdp'],
    ['rate_limit', 'xdp_rate_limit', 'rate_limit_next', 'xdp'],
    ['policy', 'xdp_policy', 'policy_next', 'xdp'],
    ['dscp_mark', 'tc_dscp_mark', 'dscp_mark_next', 'tc'],
    ['tc_count', 'tc_count', 'tc_count_next', 'tc'],
  ] as const;

  for (const [object, program, slot, kind] of PROGRAMS) {
    test(`of ${object} passes the packets that it accepts to the next program`, async (t) => {
      const type = kind === 'xdp' ? 'xdp' : 'classifier';
      const first = await bpffs.load(builtObject(object), type);
      t.after(() => first.unload());
      const successor = await bpffs.load(builtObject(`${kind}_mark`), type);
      t.after(() => successor.unload());
      await first.link(slot, successor.programPin(`${kind}_mark`));

      await first.feed(PROBE, { program });

      assert.equal(await successor.counter('mark_seen'), 1);
    });
  }
});
