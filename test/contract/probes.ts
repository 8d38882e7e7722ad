import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { LoadProbesRequest } from '../../src/datapath/datapath.js';
import { areWhole, type LoadedProbes, observedProbes } from '../../src/domain/observed.js';
import { mapPin, probesDir } from '../../src/domain/pins.js';
import { Probed } from '../support/probed.js';
import { discard, type Fixture, load, observed, refused, requestFor } from './samples.js';

const BESIDE = { object: 'beside', entryFunction: 'xdp_beside', slotMap: 'beside_next' };

let lastSerial = 0;

export function probesRequest(
  { bpffs }: Fixture,
  objectPath: string,
  changes: Partial<LoadProbesRequest> = {},
): LoadProbesRequest {
  lastSerial += 1;
  const dir = probesDir(bpffs, { name: 'probe', version: '1.0', digest: '0123456789abcdef', serial: lastSerial });
  return { dir, objectPath, entryFunction: '', share: [], fill: [], treatment: 'attach', ...changes };
}

export async function loadProbes(fixture: Fixture, ...args: [string, Partial<LoadProbesRequest>?]): Promise<string> {
  const request = probesRequest(fixture, ...args);
  await fixture.datapath.loadProbes(request);
  return request.dir;
}

export async function probesAt({ datapath }: Fixture, dir: string): Promise<LoadedProbes> {
  const found = observedProbes(await datapath.observe()).find((one) => one.dir === dir);
  assert.ok(found !== undefined, `no probes in ${dir}`);
  return found;
}

/** Removes probes and checks that all of them are gone. */
export async function discardProbes(fixture: Fixture, ...dirs: string[]): Promise<void> {
  const { datapath } = fixture;
  const found = await Promise.all(dirs.map((dir) => probesAt(fixture, dir)));
  for (const dir of dirs) await datapath.discard(dir);
  await datapath.proveGone({
    programs: found.flatMap(({ probes }) => probes.flatMap(({ programId }) => programId ?? [])),
    links: found.flatMap(({ probes }) => probes.flatMap(({ linkId }) => linkId ?? [])),
    maps: found.flatMap(({ maps }) => maps.map(({ id }) => id)),
  });
}

/** Programs that are attached to no interface. */
/** Sections of programs of chains, with the lists of a payload in which they belong. */
const CHAIN_SECTIONS = [
  ['xdp', 'xdp_ingress'],
  ['xdp.frags', 'xdp_ingress'],
  ['tc', 'tc_ingress or tc_egress'],
  ['tcx/egress', 'tc_egress'],
  ['netkit/peer', 'netkit_peer'],
  ['cgroup/skb', 'cgroup_skb_ingress or cgroup_skb_egress'],
  ['cgroup_skb/ingress', 'cgroup_skb_ingress'],
  ['cgroup_skb/egress', 'cgroup_skb_egress'],
] as const;

export function probesContract(fixtureOf: () => Fixture): void {
  describe('probes', () => {
    let probed: Probed;
    before(async () => {
      probed = await Probed.make();
    });
    after(() => probed.close());

    test('of one object are all attached and share their maps; other programs are not loaded', async () => {
      const dir = await loadProbes(fixtureOf(), await probed.object('events'));

      const { name, versionSegment, digest, serial, probes, maps, lostMaps } = await probesAt(fixtureOf(), dir);
      assert.deepEqual([name, versionSegment, digest, serial], ['probe', '1_0', '0123456789abcdef', lastSerial]);
      assert.deepEqual(
        probes.map((probe) => probe.function),
        ['on_raw_tracepoint', 'on_tracepoint'],
      );
      assert.ok(areWhole(probes));
      assert.equal(new Set(probes.flatMap(({ programId, linkId }) => [programId, linkId])).size, 4);
      assert.deepEqual(maps.map((map) => map.name).toSorted(), ['event_counts', 'watched_pid']);
      assert.deepEqual(lostMaps, []);

      await discardProbes(fixtureOf(), dir);
    });

    test('are limited to the one that is named', async () => {
      const dir = await loadProbes(fixtureOf(), await probed.object('events'), { entryFunction: 'on_tracepoint' });
      const { probes } = await probesAt(fixtureOf(), dir);
      assert.deepEqual(
        probes.map((probe) => probe.function),
        ['on_tracepoint'],
      );
      await discardProbes(fixtureOf(), dir);
    });

    test('at functions of a program are attached to it', async () => {
      const dir = await loadProbes(fixtureOf(), await probed.object('calls'));
      const { probes } = await probesAt(fixtureOf(), dir);
      assert.deepEqual(
        probes.map((probe) => probe.function),
        ['on_call', 'on_return'],
      );
      await discardProbes(fixtureOf(), dir);
    });

    test('share maps with others, and fill new ones', async () => {
      const path = await probed.object('events');
      const fill = [{ name: 'watched_pid', args: [{ key: 0, value: 77 }], path: 'map_args.0' }];
      const first = await loadProbes(fixtureOf(), path, { fill });
      const share = ['event_counts', 'watched_pid'].map((map) => ({ map, pin: mapPin(first, map) }));
      const second = await loadProbes(fixtureOf(), path, { share });

      const idsAt = async (dir: string) => (await probesAt(fixtureOf(), dir)).maps.map(({ id }) => id).toSorted();
      assert.deepEqual(await idsAt(second), await idsAt(first));
      const value = await fixtureOf().datapath.readMap(mapPin(second, 'watched_pid'), Buffer.alloc(4));
      assert.equal(Buffer.from(value ?? []).readUInt32LE(), 77);

      await fixtureOf().datapath.discard(first);
      await discardProbes(fixtureOf(), second);
    });

    test('of a trial load are attached to nothing', async () => {
      const dir = await loadProbes(fixtureOf(), await probed.object('events'), { treatment: 'load' });
      assert.deepEqual((await probesAt(fixtureOf(), dir)).probes, []);
      await discardProbes(fixtureOf(), dir);
    });

    test('are refused if the object has none, saying what it has, or if a section names no target', async () => {
      const refuse = async (path: string, entryFunction = '') =>
        fixtureOf().datapath.loadProbes(probesRequest(fixtureOf(), path, { entryFunction }));
      for (const [section, lists] of CHAIN_SECTIONS) {
        const words = ['no probe', `single (${section})`, new RegExp(`single belongs in ${lists}$`, 'm')];
        await refused(refuse(await probed.object('single', section)), 'ENTRY_FUNCTION_NOT_FOUND', ...words);
      }
      await refused(
        refuse(await probed.object('events'), 'not_a_probe'),
        'ENTRY_FUNCTION_NOT_FOUND',
        'no probe not_a_probe',
        'on_tracepoint (tracepoint/syscalls/sys_enter_getpgid)',
      );
      await refused(
        refuse(await probed.object('single', 'tracepoint/sched')),
        'OBJECT_INVALID',
        'tracepoint/<group>/<name>',
      );
    });

    test('of kinds that are not attached are told when the XDP program beside them is loaded', async () => {
      const fixture = fixtureOf();
      const objectPath = await probed.object('mixed');
      const request = requestFor(
        fixture,
        { object: 'mixed', entryFunction: 'xdp_mixed', slotMap: 'mixed_next' },
        'xdpingress',
        {
          objectPath,
        },
      );

      const { others, probes } = await fixture.datapath.load(request);

      assert.deepEqual(
        others.map(({ name, section }) => `${name} ${section}`),
        ['on_sample perf_event', 'on_socket sockops'],
      );
      assert.deepEqual(probes, []);
      await fixture.datapath.discard(request.dir);
    });

    test('are taken from the object of an XDP program, which is told', async () => {
      const fixture = fixtureOf();
      const request = probesRequest(fixture, await probed.object('beside'));
      const { others, probes } = await fixture.datapath.loadProbes(request);

      assert.deepEqual([others.map(({ name }) => name), probes.length > 0], [['xdp_beside'], true]);
      await fixture.datapath.discard(request.dir);
    });

    test('beside an XDP program are attached and removed with it', async () => {
      const fixture = fixtureOf();
      const loaded = await load(fixture, BESIDE, 'xdpingress', { objectPath: await probed.object('beside') });

      const probes = (await observed(fixture, loaded))?.probes ?? [];
      assert.deepEqual(
        probes.map((probe) => probe.function),
        ['on_getpgid'],
      );
      assert.ok(areWhole(probes));

      await discard(fixture, loaded);
      const programs = probes.flatMap(({ programId }) => programId ?? []);
      await fixture.datapath.proveGone({ programs, maps: [], links: probes.flatMap(({ linkId }) => linkId ?? []) });
    });

    test('beside an XDP program are moved to another load of it as they are', async () => {
      const fixture = fixtureOf();
      const objectPath = await probed.object('beside');
      const first = await load(fixture, BESIDE, 'xdpingress', { objectPath });
      const share = ['event_counts', 'watched_pid'].map((map) => ({ map, pin: first.map(map) }));
      const before = (await observed(fixture, first))?.probes;
      const second = await load(fixture, BESIDE, 'xdpingress', { objectPath, share, probes: 'leave' });
      assert.equal((await observed(fixture, second))?.probes, undefined);

      for (const _again of [1, 2]) {
        await fixture.datapath.moveProbes(first.dir, second.dir);
        assert.deepEqual((await observed(fixture, second))?.probes, before);
        assert.equal((await observed(fixture, first))?.probes, undefined);
      }
      await discard(fixture, first, second);
    });

    test('beside an XDP program of a trial load are attached to nothing', async () => {
      const fixture = fixtureOf();
      const request = requestFor(fixture, BESIDE, 'xdpingress', {
        objectPath: await probed.object('beside'),
        probes: 'load',
      });
      await fixture.datapath.load(request);
      const loaded = await observed(fixture, request);
      assert.ok(loaded?.programId !== undefined);
      assert.equal(loaded.probes, undefined);
      await fixture.datapath.discard(request.dir);
    });
  });
}
