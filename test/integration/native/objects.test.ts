import assert from 'node:assert/strict';
import type { ExecFileException } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { after, before, describe, type TestContext, test } from 'node:test';
import { type LoadedObject, PrivateBpffs, u8, u16, u32, u64 } from '../../support/bpftool.js';
import { checksum, ethernet, fragmentExtension, hopByHop, ipv4, ipv6, tcp, udp, vlan } from '../../support/packets.js';
import { builtObject, PROJECT_ROOT } from '../../support/project.js';

/*
 * The programs of native/bpf in the real kernel, driven by bpftool and by packets that BPF_PROG_TEST_RUN feeds them.
 */

const XDP_DROP = 1;
const XDP_PASS = 2;
/** TC_ACT_UNSPEC (-1), as the kernel returns it: unsigned. */
const TC_ACT_UNSPEC = 0xffff_ffff;

const SLOT = ['prog_array', 4, 4, 1] as const;
const COUNTER = ['array', 4, 8, 1] as const;
const MARKER_DATA_MAPS = {
  mark_id: ['array', 4, 4, 1],
  mark_order: COUNTER,
  mark_seen: COUNTER,
  mark_packets: COUNTER,
  mark_paths: ['lru_hash', 8, 8, 256],
} as const;
const MARKER_MAPS = { ...MARKER_DATA_MAPS, mark_next: SLOT } as const;
const MARKER_PAIR_MAPS = { ...MARKER_MAPS, mark_next_too: SLOT } as const;

/**
 * Object to its programs and maps: type, key size, value size, entries. Without tc_switch: its maps ask to be pinned,
 * and bpftool would pin them in the machine's own bpffs.
 */
const CONTENTS = {
  xdp_root: { type: 'xdp', programs: ['xdp_root'], maps: { xdp_root_array: SLOT } },
  tc_root: {
    type: 'classifier',
    programs: ['tc_egress_root', 'tc_ingress_root'],
    maps: { tc_ingress_root_array: SLOT, tc_egress_root_array: SLOT },
  },
  cgroup_skb_root: {
    type: 'cgroup/skb',
    programs: ['cgroup_skb_egress_root', 'cgroup_skb_ingress_root'],
    maps: { cgroup_skb_ingress_root_array: SLOT, cgroup_skb_egress_root_array: SLOT },
  },
  skb_count: { type: 'cgroup/skb', programs: ['skb_count'], maps: { skb_count_next: SLOT, skb_packets: COUNTER } },
  skb_drop: {
    type: 'cgroup/skb',
    programs: ['skb_drop'],
    maps: { skb_drop_next: SLOT, skb_drop_ports: ['hash', 2, 1, 64], skb_dropped: COUNTER },
  },
  port_count: {
    type: 'xdp',
    programs: ['xdp_port_count'],
    maps: { port_count_next: SLOT, packet_count: COUNTER, port_packets: ['lru_hash', 2, 8, 1024] },
  },
  port_drop: {
    type: 'xdp',
    programs: ['xdp_port_drop'],
    maps: { port_drop_next: SLOT, drop_ports: ['hash', 2, 1, 1024], seen_count: COUNTER, dropped_count: COUNTER },
  },
  port_drop_v2: {
    type: 'xdp',
    programs: ['xdp_port_drop'],
    maps: {
      port_drop_next: SLOT,
      drop_ports: ['hash', 2, 1, 1024],
      seen_count: COUNTER,
      dropped_count: COUNTER,
      fragment_count: COUNTER,
    },
  },
  rate_limit: {
    type: 'xdp',
    programs: ['xdp_rate_limit'],
    maps: {
      rate_limit_next: SLOT,
      rate_limit_config: COUNTER,
      rate_limit_seen: COUNTER,
      rate_limit_dropped: COUNTER,
      rate_limit_bucket: ['array', 4, 16, 1],
    },
  },
  dscp_mark: {
    type: 'classifier',
    programs: ['tc_dscp_mark'],
    maps: { dscp_mark_next: SLOT, dscp_ports: ['hash', 2, 1, 1024], dscp_seen: COUNTER, dscp_marked: COUNTER },
  },
  tc_count: {
    type: 'classifier',
    programs: ['tc_count'],
    maps: { tc_count_next: SLOT, tc_packets: COUNTER, tc_bytes: COUNTER },
  },
  xdp_mark: { type: 'xdp', programs: ['xdp_mark'], maps: MARKER_MAPS },
  tc_mark: { type: 'classifier', programs: ['tc_mark'], maps: MARKER_MAPS },
  tc_tail: { type: 'classifier', programs: ['tc_tail', 'tc_tail_ok'], maps: MARKER_DATA_MAPS },
  xdp_mark_pair: { type: 'xdp', programs: ['xdp_mark', 'xdp_mark_too'], maps: MARKER_PAIR_MAPS },
  tc_mark_pair: { type: 'classifier', programs: ['tc_mark', 'tc_mark_too'], maps: MARKER_PAIR_MAPS },
  policy: {
    type: 'xdp',
    programs: ['xdp_policy'],
    maps: {
      policy_next: SLOT,
      policy_rules: ['hash', 8, 56, 4],
      policy_prefixes: ['lpm_trie', 8, 4, 16],
      policy_budgets: ['array', 4, 16, 4],
      policy_marks: ['lru_hash', 2, 8, 64],
      policy_cpu_array: ['percpu_array', 4, 8, 8],
      policy_cpu_hash: ['percpu_hash', 2, 8, 8],
      policy_cpu_lru: ['lru_percpu_hash', 2, 8, 8],
      policy_seen: COUNTER,
      policy_matched: COUNTER,
      policy_last: COUNTER,
    },
  },
  exec_count: {
    type: 'tracepoint',
    programs: ['count_exec'],
    maps: { exec_total: COUNTER, exec_names: ['lru_hash', 16, 8, 1024] },
  },
  broken: { type: 'xdp', programs: ['xdp_broken'], maps: { broken_next: SLOT } },
} as const;

/** What bpftool calls `type` differently when it shows a program. */
const KERNEL_TYPE: Readonly<Record<string, string>> = { classifier: 'sched_cls', 'cgroup/skb': 'cgroup_skb' };

type ObjectName = keyof typeof CONTENTS;

const bpffs = new PrivateBpffs();
before(() => bpffs.mount());
after(() => bpffs.unmount());

/** Loads an object for the duration of a test. */
async function load(t: TestContext, object: ObjectName): Promise<LoadedObject> {
  const loaded = await bpffs.load(builtObject(object), CONTENTS[object].type);
  t.after(() => loaded.unload());
  return loaded;
}

describe('every object', () => {
  for (const object of Object.keys(CONTENTS) as ObjectName[]) {
    if (object === 'broken') continue;
    test(`${object} passes the verifier and has its programs and maps`, async (t) => {
      const { type, programs, maps } = CONTENTS[object];
      const loaded = await load(t, object);

      assert.deepEqual(await loaded.programs(), programs);
      for (const program of programs) {
        assert.equal((await loaded.showProgram(program)).type, KERNEL_TYPE[type] ?? type);
      }
      assert.deepEqual(await loaded.maps(), Object.keys(maps).toSorted());
      for (const [map, shape] of Object.entries(maps)) {
        const shown = await loaded.showMap(map);
        assert.deepEqual([shown.type, shown.bytes_key, shown.bytes_value, shown.max_entries], shape, map);
      }
    });
  }

  test('contains nothing about the machine that built it', async () => {
    for (const object of Object.keys(CONTENTS)) {
      const bytes = await readFile(builtObject(object));
      assert.ok(!bytes.includes(PROJECT_ROOT), `${object}.bpf.o holds the path ${PROJECT_ROOT}`);
    }
  });
});

test('broken is refused by the verifier, which says why', async () => {
  await assert.rejects(bpffs.load(builtObject('broken'), 'xdp'), (refusal: ExecFileException) => {
    assert.match(String(refusal.stdout) + String(refusal.stderr), /invalid access to packet, off=0 size=1/);
    return true;
  });
});

describe('port_count', () => {
  const CASES: readonly (readonly [string, Buffer, number | undefined])[] = [
    ['UDP over IPv4', ethernet(ipv4(udp(1001))), 1001],
    ['TCP over IPv4 with options', ethernet(ipv4(tcp(1002), { options: Buffer.alloc(8, 1) })), 1002],
    ['UDP over IPv6', ethernet(ipv6(udp(1003))), 1003],
    ['TCP behind IPv6 extension headers', ethernet(ipv6(fragmentExtension(hopByHop(tcp(1004)), 0))), 1004],
    ['UDP behind two VLAN tags', ethernet(vlan(vlan(ipv4(udp(1005))), 0x88a8)), 1005],
    ['the first fragment', ethernet(ipv4(udp(1006), { fragment: 0x2000 })), 1006],
    ['a later IPv4 fragment', ethernet(ipv4(udp(1007), { fragment: 0x2001 })), undefined],
    ['a later IPv6 fragment', ethernet(ipv6(fragmentExtension(udp(1008), 1))), undefined],
    ['a header that is cut short', ethernet(ipv4(udp(1009))).subarray(0, 14 + 20 + 2), undefined],
    ['UDP behind three VLAN tags', ethernet(vlan(vlan(vlan(ipv4(udp(1010)))))), undefined],
    ['another protocol', ethernet(ipv4({ protocol: 1, bytes: udp(1011).bytes })), undefined],
    ['an IPv4 header shorter than it can be', ethernet(ipv4(udp(1012), { headerWords: 4 })), undefined],
    ['a frame without IP', ethernet({ ethertype: 0x0806, bytes: Buffer.alloc(46) }), undefined],
  ];
  for (const [what, frame, port] of CASES) {
    test(`${port === undefined ? 'finds no port in' : 'finds the port of'} ${what}`, async (t) => {
      const program = await load(t, 'port_count');

      assert.equal((await program.feed(frame, { repeat: 3 })).retval, XDP_PASS);

      assert.equal(await program.counter('packet_count'), 3);
      assert.deepEqual(await program.entries('port_packets'), port === undefined ? [] : [{ key: port, value: 3 }]);
    });
  }
});

describe('port_drop', () => {
  test('drops the ports in its map that have a nonzero value, and no others', async (t) => {
    const program = await load(t, 'port_drop');
    await program.write('drop_ports', u16(7001), u8(1));
    await program.write('drop_ports', u16(7002), u8(0));
    await program.write('drop_ports', u16(0), u8(1));

    assert.equal((await program.feed(ethernet(ipv4(udp(7001))))).retval, XDP_DROP);
    assert.equal((await program.feed(ethernet(ipv6(tcp(7001))))).retval, XDP_DROP);
    assert.equal((await program.feed(ethernet(ipv4(udp(7002))))).retval, XDP_PASS);
    assert.equal((await program.feed(ethernet(ipv4(udp(7003))))).retval, XDP_PASS);
    assert.equal((await program.feed(ethernet({ ethertype: 0x0806, bytes: Buffer.alloc(46) }))).retval, XDP_PASS);

    assert.equal(await program.counter('seen_count'), 5);
    assert.equal(await program.counter('dropped_count'), 2);
  });

  test('counts fragments from version 2 on', async (t) => {
    const program = await load(t, 'port_drop_v2');

    await program.feed(ethernet(ipv4(udp(7001))));
    await program.feed(ethernet(ipv4(udp(7001), { fragment: 0x2000 })));
    await program.feed(ethernet(ipv6(fragmentExtension(udp(7001), 1))));

    assert.equal(await program.counter('fragment_count'), 2);
  });
});

describe('rate_limit', () => {
  test('lets everything pass while no limit is set', async (t) => {
    const program = await load(t, 'rate_limit');

    await program.feed(ethernet(ipv4(udp(1))), { repeat: 1000 });

    assert.equal(await program.counter('rate_limit_seen'), 1000);
    assert.equal(await program.counter('rate_limit_dropped'), 0);
  });

  test('lets the packets of one second of a burst pass and drops the rest', async (t) => {
    const program = await load(t, 'rate_limit');
    await program.write('rate_limit_config', u32(0), u64(2));

    const { retval } = await program.feed(ethernet(ipv4(udp(1))), { repeat: 10 });

    assert.equal(retval, XDP_DROP);
    assert.equal(await program.counter('rate_limit_seen'), 10);
    assert.equal(await program.counter('rate_limit_dropped'), 8);
  });
});

describe('dscp_mark', () => {
  const EF = 46;
  const ECN = 0b01;

  test('writes the DSCP of IPv4 packets, keeps their ECN and corrects the checksum', async (t) => {
    const program = await load(t, 'dscp_mark');
    await program.write('dscp_ports', u16(5060), u8(EF));

    const { retval, out } = await program.feed(ethernet(ipv4(udp(5060), { tos: (10 << 2) | ECN })));

    assert.equal(retval, TC_ACT_UNSPEC);
    assert.equal(out[14 + 1], (EF << 2) | ECN);
    assert.equal(checksum(out.subarray(14, 14 + 20)), 0, 'the header with its checksum sums up to nothing');
    assert.equal(await program.counter('dscp_marked'), 1);
  });

  test('writes the DSCP of IPv6 packets and keeps ECN and flow label', async (t) => {
    const program = await load(t, 'dscp_mark');
    await program.write('dscp_ports', u16(5060), u8(EF));

    const { out } = await program.feed(ethernet(ipv6(udp(5060), { trafficClass: ECN, flowLabel: 0xabcde })));

    assert.equal(out.readUInt32BE(14), ((6 << 28) | (((EF << 2) | ECN) << 20) | 0xabcde) >>> 0);
  });

  test('leaves other ports alone, and ignores values that are not a DSCP', async (t) => {
    const program = await load(t, 'dscp_mark');
    await program.write('dscp_ports', u16(5061), u8(64));

    for (const port of [5060, 5061]) {
      const frame = ethernet(ipv4(udp(port)));
      assert.deepEqual((await program.feed(frame)).out, frame);
    }

    assert.equal(await program.counter('dscp_seen'), 2);
    assert.equal(await program.counter('dscp_marked'), 0);
  });
});

test('tc_count counts packets and bytes', async (t) => {
  const program = await load(t, 'tc_count');
  const frame = ethernet(ipv4(udp(1)));

  assert.equal((await program.feed(frame, { repeat: 4 })).retval, TC_ACT_UNSPEC);

  assert.equal(await program.counter('tc_packets'), 4);
  assert.equal(await program.counter('tc_bytes'), 4 * frame.length);
});
