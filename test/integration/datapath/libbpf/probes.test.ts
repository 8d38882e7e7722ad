import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { whyNot } from '../../../../src/datapath/libbpf/diagnostics/tracing-features.js';
import { areWhole, observedProbes } from '../../../../src/domain/observed.js';
import { mapPin, probesFolder } from '../../../../src/domain/pins.js';
import { type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discardProbes, loadProbes, probesAt, probesRequest } from '../../../contract/probes.js';
import { load, observed, refused } from '../../../contract/samples.js';
import { existing } from '../../../support/kernel-ids.js';
import { Probed } from '../../../support/probed.js';

const CALLS = 250;

describe('probes on the kernel', () => {
  let probed: Probed;
  let pid: number;
  let fixture: KernelFixture;
  before(async () => {
    probed = await Probed.make();
    pid = probed.start();
  });
  after(() => probed.close());
  beforeEach(async () => {
    fixture = await kernelFixture();
  });
  afterEach(() => fixture.close());

  const watching = () => [{ name: 'watched_pid', args: [{ key: 0, value: pid }], path: 'map_args.0' }];

  async function counted(dir: string, kind: number): Promise<number> {
    const key = Buffer.from([kind, 0]);
    const value = await fixture.datapath.readMap(mapPin(dir, 'event_counts'), key);
    return value === undefined ? 0 : Number(Buffer.from(value).readBigUInt64LE());
  }

  test('a tracepoint and a raw tracepoint count the system calls of one process, each of them once', async () => {
    const dir = await loadProbes(fixture, await probed.object('events'), { fill: watching() });

    await probed.call(CALLS);

    assert.deepEqual([await counted(dir, 0), await counted(dir, 1), await counted(dir, 2)], [CALLS, CALLS, 0]);
    await discardProbes(fixture, dir);
  });

  test('a uprobe and a uretprobe count the calls of a function', async () => {
    const dir = await loadProbes(fixture, await probed.object('calls'));

    await probed.call(CALLS);

    assert.deepEqual([await counted(dir, 0), await counted(dir, 1)], [CALLS, CALLS]);
    await discardProbes(fixture, dir);
    await probed.call(1);
  });

  test('two loads on the same maps count twice, and once again when one of them is removed', async () => {
    const path = await probed.object('events');
    const first = await loadProbes(fixture, path, { fill: watching() });
    const share = ['event_counts', 'watched_pid'].map((map) => ({ map, pin: mapPin(first, map) }));
    const second = await loadProbes(fixture, path, { share });

    await probed.call(10);
    assert.equal(await counted(second, 0), 20);

    const [old] = [await probesAt(fixture, first)];
    await fixture.datapath.discard(first);
    const [programs, links] = [
      old.probes.flatMap(({ programId }) => programId ?? []),
      old.probes.flatMap(({ linkId }) => linkId ?? []),
    ];
    await fixture.datapath.proveGone({ programs, links, maps: [] });
    assert.deepEqual([existing('prog', programs), existing('link', links)], [[], []]);
    await probed.call(10);
    assert.equal(await counted(second, 0), 30);
    await discardProbes(fixture, second);
  });

  test('a tracepoint in the object of an XDP program counts into the map that packets are counted in', async () => {
    const sample = { object: 'beside', entryFunction: 'xdp_beside', slotMap: 'beside_next' };
    const objectPath = await probed.object('beside');
    const loaded = await load(fixture, sample, 'xdpingress', { objectPath, fill: watching() });
    await fixture.datapath.attach(loaded.hook, loaded.program, loaded.link);

    await probed.call(CALLS);
    await fixture.receive(100, 9);

    assert.equal(await counted(loaded.dir, 1), CALLS);
    const patience = AbortSignal.timeout(10_000);
    while ((await counted(loaded.dir, 0)) < 100 && !patience.aborted) await new Promise(setImmediate);
    assert.equal(await counted(loaded.dir, 0), 100);

    const probes = (await observed(fixture, loaded))?.probes ?? [];
    await fixture.datapath.detach(loaded.hook, loaded.link);
    await fixture.datapath.discard(loaded.dir);
    const programs = probes.flatMap(({ programId }) => programId ?? []);
    await fixture.datapath.proveGone({ programs, maps: [], links: probes.flatMap(({ linkId }) => linkId ?? []) });
  });

  test('pins of probes that others have removed are reported', async () => {
    const dir = await loadProbes(fixture, await probed.object('events'));

    rmSync(mapPin(dir, 'event_counts'));
    rmSync(`${probesFolder(dir)}/on_tracepoint/link`);

    const { probes, lostMaps } = await probesAt(fixture, dir);
    assert.equal(lostMaps.length, 1);
    assert.deepEqual(
      probes.map((probe) => [probe.function, areWhole([probe])]),
      [
        ['on_raw_tracepoint', true],
        ['on_tracepoint', false],
      ],
    );
    await discardProbes(fixture, dir);
  });

  for (const [section, kind] of [
    ['kprobe/do_nanosleep', 'kprobe'],
    ['kretprobe/do_nanosleep', 'kretprobe'],
    ['fentry/bpf_fentry_test1', 'fentry'],
    ['fexit/bpf_fentry_test1', 'fexit'],
  ] as const) {
    test(`${section} is attached if the kernel supports it, and otherwise the reason is given`, async () => {
      const objectPath = await probed.object('single', section);
      const reason = whyNot(kind);
      if (reason === undefined) {
        const dir = await loadProbes(fixture, objectPath);
        assert.ok(areWhole((await probesAt(fixture, dir)).probes));
        await discardProbes(fixture, dir);
      } else {
        const request = probesRequest(fixture, objectPath);
        const error = await refused(fixture.datapath.loadProbes(request), 'ATTACH_FAILED', 'single', reason);
        assert.match(
          error.message,
          /cannot be attached to .* since this machine does not support that: .*[a-z]{3,} [a-z]{2,}/,
        );
      }
      assert.deepEqual(observedProbes(await fixture.datapath.observe()), []);
    });
  }

  for (const [section, words] of [
    ['tracepoint/syscalls/sys_enter_nothing', 'no such tracepoint'],
    ['raw_tp/no_such_thing', 'no such tracepoint'],
    ['uprobe/nonexistent/program:main', 'Cannot open /nonexistent/program'],
    ['uprobe/proc/self/exe:no_such_function', 'has no function no_such_function'],
    ['uprobe/etc/os-release:main', 'not a 64-bit little-endian ELF file'],
  ] as const) {
    test(`${section} is refused with a reason, and nothing is left`, async () => {
      const request = probesRequest(fixture, await probed.object('single', section));
      await refused(fixture.datapath.loadProbes(request), 'ATTACH_FAILED', 'The probe single', words);
    });
  }
});
