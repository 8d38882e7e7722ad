import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { LoadRequest } from '../../src/datapath/datapath.js';
import { programPin } from '../../src/domain/pins.js';
import { builtObject } from '../support/project.js';
import {
  assertEmpty,
  discard,
  type Fixture,
  KEY_0,
  load,
  observed,
  PORT_COUNT,
  PORT_DROP,
  refused,
  requestFor,
  TC_COUNT,
  TC_SWITCH,
  tcRoot,
  u16,
  u64,
  XDP_ROOT,
} from './samples.js';

/** Sections of programs that libbpf attaches by the kernel's BTF, each as long as the section of port_count. */
const SECTIONS_OF_OTHER_KINDS = [
  'fentry/tcp_con',
  'fexit.s/do_exi',
  'fmod_ret/do_fo',
  'freplace/h3_pa',
  'tp_btf/sched_s',
  'lsm/file_open_',
  'lsm_cgroup/soc',
  'iter.s/bpf_map',
] as const;

export function loadingContract(fixtureOf: () => Fixture): void {
  describe('loading', () => {
    for (const section of SECTIONS_OF_OTHER_KINDS) {
      test(`refuses an entry function in the section ${section}`, async () => {
        const objectPath = join(tmpdir(), `l3af-section-${section.replaceAll('/', '-')}.o`);
        const object = await readFile(builtObject(PORT_COUNT.object), 'latin1');
        assert.equal(section.length, 'xdp-port-count'.length);
        await writeFile(objectPath, object.replaceAll('xdp-port-count', section), 'latin1');

        const request = requestFor(fixtureOf(), PORT_COUNT, 'xdpingress', { objectPath });
        await refused(fixtureOf().datapath.load(request), 'OBJECT_INVALID', section);

        await assertEmpty(fixtureOf());
        await rm(objectPath);
      });
    }

    test('refuses a program that its chain cannot call, in words, and takes the same program where nothing calls it', async () => {
      const fixture = fixtureOf();
      const objectPath = join(tmpdir(), 'l3af-section-frags.o');
      const object = await readFile(builtObject(PORT_COUNT.object), 'latin1');
      const section = 'xdp.frags'.padEnd('xdp-port-count'.length, '\0');
      await writeFile(objectPath, object.replaceAll('xdp-port-count', section), 'latin1');
      const plain = await load(fixture, PORT_DROP, 'xdpingress');
      const { hooks } = await fixture.datapath.observe();

      const withFrags = requestFor(fixture, PORT_COUNT, 'xdpingress', { objectPath });
      const ours = fixture.datapath.load({ ...withFrags, like: plain.program });
      await refused(ours, 'LOAD_FAILED', 'xdp.frags', 'SEC("xdp")', 'chaining: false');
      assert.deepEqual((await fixture.datapath.observe()).hooks, hooks);

      await fixture.datapath.load({ ...withFrags, like: `${plain.dir}/gone` });
      const without = requestFor(fixture, XDP_ROOT, 'xdpingress');
      const theirs = fixture.datapath.load({ ...without, like: programPin(withFrags.dir) });
      await refused(theirs, 'LOAD_FAILED', 'SEC("xdp.frags")');
      await fixture.datapath.load({ ...without, like: plain.program });

      for (const { dir } of [without, withFrags, plain]) await fixture.datapath.discard(dir);
      await assertEmpty(fixture);
      await rm(objectPath);
    });

    test('shows a loaded program with its program, empty slot and maps', async () => {
      const loaded = await load(fixtureOf(), PORT_COUNT, 'xdpingress');

      const found = await observed(fixtureOf(), loaded);
      assert.ok(found !== undefined);
      const { hook, name, versionSegment, digest, dir, programId, slot, maps } = found;
      assert.deepEqual([hook, name, versionSegment, dir], [loaded.hook, 'port_count', '1_0', loaded.dir]);
      assert.equal(digest, '0123456789abcdef');
      assert.ok(programId !== undefined && programId > 0);
      assert.equal(slot?.next, null);
      const shapes = maps.map((map) => [map.name, map.type, map.keySize, map.valueSize, map.maxEntries]);
      assert.deepEqual(shapes.toSorted(), [
        ['packet_count', 2, 4, 8, 1],
        ['port_packets', 9, 2, 8, 1024],
      ]);

      await discard(fixtureOf(), loaded);
    });

    test('loads only the entry program of an object with several, and only its own slot', async () => {
      const loaded = await load(fixtureOf(), tcRoot('egress'), 'egress');

      const found = await observed(fixtureOf(), loaded);
      assert.ok(found?.slot !== undefined);
      assert.deepEqual(found.maps, []);

      await discard(fixtureOf(), loaded);
    });

    test('accepts a program without a slot, and treats its PROG_ARRAY like any other map', async () => {
      const loaded = await load(fixtureOf(), { ...TC_COUNT, slotMap: '' }, 'ingress');

      const found = await observed(fixtureOf(), loaded);
      assert.equal(found?.slot, undefined);
      assert.ok(
        found?.maps.some(({ type }) => type === 3),
        JSON.stringify(found?.maps),
      );

      await discard(fixtureOf(), loaded);
    });

    test('fills maps before anything can reach the program', async () => {
      const fill = [
        {
          name: 'drop_ports',
          path: 'map_args.0',
          args: [
            { key: 53, value: 1 },
            { key: '0x50', value: '1' },
          ],
        },
      ];
      const loaded = await load(fixtureOf(), PORT_DROP, 'xdpingress', { fill });

      for (const port of [53, 80]) {
        const value = await fixtureOf().datapath.readMap(loaded.map('drop_ports'), Buffer.from(u16(port), 'hex'));
        assert.deepEqual([...(value ?? [])], [1], `port ${port}`);
      }

      await discard(fixtureOf(), loaded);
    });

    test('shares maps with an existing loaded program, including their values', async () => {
      const first = await load(fixtureOf(), PORT_COUNT, 'xdpingress');
      await fixtureOf().datapath.writeMap(first.map('packet_count'), {
        set: [{ key: '00000000', value: u64(41) }],
        remove: [],
      });

      const share = [{ map: 'packet_count', pin: first.map('packet_count') }];
      const second = await load(fixtureOf(), PORT_COUNT, 'xdpingress', { share });
      const [before, after] = [await observed(fixtureOf(), first), await observed(fixtureOf(), second)];
      await discard(fixtureOf(), first);

      const idOf = (found: typeof before, map: string) => found?.maps.find((other) => other.name === map)?.id;
      assert.equal(idOf(after, 'packet_count'), idOf(before, 'packet_count'));
      assert.notEqual(idOf(after, 'port_packets'), idOf(before, 'port_packets'));
      const value = await fixtureOf().datapath.readMap(second.map('packet_count'), KEY_0);
      assert.deepEqual(value && Buffer.from(value).toString('hex'), u64(41));

      await discard(fixtureOf(), second);
    });

    test('shares maps that ask to be pinned by name with the other side of TC, except slots and maps with entries', async () => {
      const ingress = await load(fixtureOf(), TC_SWITCH, 'ingress');
      const otherSides = [ingress.dir];
      const egress = await load(fixtureOf(), TC_SWITCH, 'egress', { otherSides });
      const filled = await load(fixtureOf(), TC_SWITCH, 'egress', { otherSides, fill: entry('switch_on', 0, 1) });
      const alone = await load(fixtureOf(), TC_SWITCH, 'egress', { otherSides: [`${ingress.dir}9`] });

      const all = await Promise.all([ingress, egress, filled, alone].map((one) => observed(fixtureOf(), one)));
      const kinds = (name: string) => new Set(all.map((one) => one?.maps.find((map) => map.name === name)?.id));
      const [first, second, ...others] = all.map((one) => one?.maps.find(({ name }) => name === 'switch_on')?.id);
      assert.equal(first, second);
      assert.equal(new Set([first, ...others]).size, 3);
      assert.equal(kinds('switch_packets').size, 4);
      assert.equal(new Set(all.map((one) => one?.slot?.mapId)).size, 4);

      const on = { set: [{ key: '00000000', value: u64(1) }], remove: [] };
      await fixtureOf().datapath.writeMap(ingress.map('switch_on'), on);
      await discard(fixtureOf(), ingress);
      const value = await fixtureOf().datapath.readMap(egress.map('switch_on'), KEY_0);
      assert.deepEqual(value && Buffer.from(value).toString('hex'), u64(1));
      await discard(fixtureOf(), egress, filled, alone);
    });

    const entry = (name: string, key: number | string, value: number | string) => [
      { name, path: 'map_args.0', args: [{ key, value }] },
    ];
    const REFUSED: readonly (readonly [
      string,
      Partial<LoadRequest>,
      Parameters<typeof refused>[1],
      ...(string | RegExp)[],
    ])[] = [
      [
        'an entry function that is not there',
        { entryFunction: 'xdp_none' },
        'ENTRY_FUNCTION_NOT_FOUND',
        'xdp_none',
        'xdp_port_drop',
      ],
      ['a slot that is not there', { slotMap: 'no_slot' }, 'SLOT_INVALID', 'no_slot'],
      ['a slot that is no PROG_ARRAY', { slotMap: 'drop_ports' }, 'SLOT_INVALID', 'drop_ports'],
      ['arguments for a map that is not there', { fill: entry('ports', 1, 1) }, 'MAP_NOT_FOUND', 'ports'],
      [
        'a map to share that the object does not have',
        { share: [{ map: 'ports', pin: '/nonexistent' }] },
        'MAP_NOT_FOUND',
        'ports',
      ],
      ['a value that is too large', { fill: entry('drop_ports', 53, 256) }, 'MAP_VALUE_INVALID', 'drop_ports', '256'],
      ['a key that is too large', { fill: entry('drop_ports', 65_536, 1) }, 'MAP_VALUE_INVALID', 'drop_ports', '65536'],
      ['a key beyond an array', { fill: entry('seen_count', 1, 1) }, 'MAP_VALUE_INVALID', 'seen_count'],
      ['a file that is not there', { objectPath: '/nonexistent/x.bpf.o' }, 'OBJECT_INVALID'],
      ['a file that is no object', { objectPath: '/proc/version' }, 'OBJECT_INVALID'],
    ];
    for (const [what, changes, code, ...words] of REFUSED) {
      test(`refuses ${what}, and leaves nothing`, async () => {
        const request = requestFor(fixtureOf(), PORT_DROP, 'xdpingress', changes);

        await refused(fixtureOf().datapath.load(request), code, ...words);

        await assertEmpty(fixtureOf());
      });
    }

    test('refuses an object that is truncated, and leaves nothing', async () => {
      const objectPath = join(tmpdir(), `l3af-cut-${process.pid}.bpf.o`);
      await writeFile(objectPath, (await readFile(builtObject('port_drop'))).subarray(0, 700));

      await refused(
        fixtureOf().datapath.load(requestFor(fixtureOf(), PORT_DROP, 'xdpingress', { objectPath })),
        'OBJECT_INVALID',
      );

      await rm(objectPath);
      await assertEmpty(fixtureOf());
    });
  });
}
