import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { PayloadProgram } from '../../support/packages.js';
import { idsOf, type KernelState, numberIn, surviving } from '../support/kernel.js';
import { openProbesStage, type ProbesStage, probe, watching } from '../support/probes.js';
import { eventually } from '../support/stage.js';

const CALLS = 100;

let on: ProbesStage;
before(async () => {
  on = await openProbesStage('probes', 1000);
});
after(() => on.close());

const events = (changes: Partial<PayloadProgram> & { carry_maps?: string[] } = {}) =>
  probe('events', { ...watching(on.pid), ...changes });

const mapAt = (name: string, version: string, map: string) =>
  join(on.stage.bpffs, 'probes', name, version.replaceAll('.', '_'), map);

async function counted(name: string, kind: number, version = '1.0'): Promise<number> {
  return (await numberIn(mapAt(name, version, 'event_counts'), Uint8Array.of(kind, 0))) ?? 0;
}

const linkIds = ({ links }: KernelState) => links.map(({ id }) => id).toSorted((a, b) => a - b);

describe('probes of the host', () => {
  afterEach(() => on.clear());

  test('are attached by a deploy, count what happens, and are removed completely by a delete', async () => {
    const deployed = await on.stage.deploy({ probes: [events(), probe('calls')] });
    assert.equal(deployed.status, 'applied', deployed.message);
    assert.deepEqual(
      deployed.programs.map(({ iface, direction, name, result }) => [iface, direction, name, result]),
      [
        ['', '', 'calls', 'started'],
        ['', '', 'events', 'started'],
      ],
    );

    await on.probed.call(CALLS);
    assert.deepEqual([await counted('events', 0), await counted('events', 1)], [CALLS, CALLS]);
    assert.deepEqual([await counted('calls', 0), await counted('calls', 1)], [CALLS, CALLS]);
    const before = await on.stage.kernel();
    assert.equal(before.links.length, 4);

    const deleted = await on.stage.delete({ probes: ['calls', 'nobody'] });
    assert.deepEqual(
      deleted.programs.map(({ name, result }) => [name, result]),
      [
        ['events', 'unchanged'],
        ['calls', 'stopped'],
        ['nobody', 'unchanged'],
      ],
    );
    assert.deepEqual(linkIds(await on.stage.kernel()).length, 2);
    assert.deepEqual((await on.stage.deploy({})).programs[0]?.result, 'stopped');
    assert.deepEqual(surviving(idsOf(before)), [], 'gone when the answer comes');
  });

  test('have maps that are monitored, and that are removed with the probes', async () => {
    const monitor_maps = [{ name: 'event_counts', key: 0, aggregator: 'scalar' } as const];
    assert.equal((await on.stage.deploy({ probes: [events({ monitor_maps })] })).status, 'applied');
    await on.probed.call(CALLS);
    const read = async () => (await on.stage.fleet.request(on.stage.host, 'state', {})).ProbesBpfs[0]?.MetricsBpfMaps;
    await eventually(
      read,
      (maps) => maps?.event_counts_0_scalar?.LastValue === CALLS,
      `${CALLS} calls should be in the snapshot`,
    );
    const answer = await on.stage.delete({ probes: ['events'] });
    assert.deepEqual([answer.status, answer.errors], ['applied', []]);
  });

  test('l3afd defect 10: probe links are never closed, and every deploy attaches probes again', async () => {
    const payload = { probes: [events()] };
    await on.stage.deploy(payload);
    const before = await on.stage.kernel();

    for (let again = 1; again <= 3; again++) assert.equal((await on.stage.deploy(payload)).status, 'unchanged');

    const standing = await on.stage.kernel();
    assert.deepEqual(standing, before);
    await on.probed.call(CALLS);
    assert.equal(await counted('events', 0), CALLS, 'one probe has counted, and not four');

    await on.stage.deploy({ probes: [] });
    assert.deepEqual(surviving(idsOf(before)), []);
  });

  test('are replaced by another version, which takes over the tables that carry_maps names', async () => {
    await on.stage.deploy({ probes: [events()] });
    await on.probed.call(CALLS);
    const before = await on.stage.kernel();

    const updated = await on.stage.deploy({ probes: [events({ version: '2.0', carry_maps: ['event_counts'] })] });
    assert.deepEqual([updated.status, updated.programs[0]?.result], ['applied', 'updated'], updated.message);

    await on.probed.call(CALLS);
    assert.equal(await counted('events', 0, '2.0'), 2 * CALLS);
    const now = linkIds(await on.stage.kernel());
    assert.equal(now.length, 2);
    assert.deepEqual(surviving({ prog: new Set(), map: new Set(), link: new Set(linkIds(before)) }), []);
  });

  test('new map_args change a live map and load nothing', async () => {
    await on.stage.deploy({ probes: [events({ map_args: [{ name: 'watched_pid', args: [{ key: 0, value: 1 }] }] })] });
    const before = linkIds(await on.stage.kernel());
    await on.probed.call(CALLS);
    assert.equal(await counted('events', 0), 0);

    const { programs } = await on.stage.deploy({ probes: [events()] });

    assert.equal(programs[0]?.result, 'updated');
    await on.probed.call(CALLS);
    assert.equal(await counted('events', 0), CALLS);
    assert.deepEqual(linkIds(await on.stage.kernel()), before);
  });

  test('continue when the agent is killed, and are adopted by the next agent', async () => {
    await on.stage.deploy({ probes: [events()] });
    const before = await on.stage.kernel();

    await on.stage.agent.kill('SIGKILL');
    await on.probed.call(CALLS);
    await on.stage.agent.start();

    assert.equal(await counted('events', 0), CALLS);
    assert.deepEqual(await on.stage.kernel(), before);
    assert.equal((await on.stage.deploy({ probes: [events()] })).status, 'unchanged');
  });

  test('are repaired when somebody unpins a link, a program or a map; the counts stay', async () => {
    await on.stage.deploy({ probes: [events()] });
    await on.probed.call(CALLS);

    for (const damage of ['probes/on_tracepoint/link', 'probes/on_raw_tracepoint/prog', 'maps/watched_pid']) {
      const { programs } = await on.stage.kernel();
      const [dir = ''] = programs[0]!.pin.split('/probes/on_');
      rmSync(join(on.stage.bpffs, dir, damage));

      const isGone = async () => !existsSync(join(on.stage.bpffs, dir));
      await eventually(isGone, (gone) => gone, `what lacks ${damage} is replaced`);
      const state = await on.stage.kernel();
      assert.deepEqual([state.programs.length, state.links.length], [2, 2]);
    }
    await eventually(
      () => counted('events', 0),
      (count) => count === CALLS,
      'the counts are there',
    );
    await on.probed.call(CALLS);
    assert.equal(await counted('events', 0), 2 * CALLS);
    assert.equal((await on.stage.deploy({ probes: [events()] })).status, 'unchanged');
  });

  test('that are disabled are desired, but not attached', async () => {
    await on.stage.deploy({ probes: [events()] });
    const { programs } = await on.stage.deploy({ probes: [events({ admin_status: 'disabled' })] });
    assert.equal(programs[0]?.result, 'disabled');
    assert.deepEqual((await on.stage.kernel()).entries, []);
  });

  test('are added beside existing ones, but a probe of the same name with other content is refused', async () => {
    await on.stage.deploy({ probes: [events()] });
    const added = await on.stage.add({ probes: [probe('calls')] });
    assert.deepEqual(
      added.programs.map(({ name, result }) => [name, result]),
      [
        ['calls', 'started'],
        ['events', 'unchanged'],
      ],
    );
    const refused = await on.stage.add({ probes: [events({ version: '2.0' })] });
    assert.deepEqual([refused.status, refused.code], ['rejected', 'NAME_CONFLICT']);
  });

  for (const [name, words] of [
    ['kernel-function', /kprobe do_nanosleep/],
    ['function-entry', /fentry bpf_fentry_test1/],
    ['no-such-tracepoint', /no such tracepoint/],
  ] as const) {
    test(`${name}: what the kernel cannot do is reported, and nothing changes`, async (t) => {
      await on.stage.deploy({ probes: [events()] });
      const before = await on.stage.kernel();

      const answer = await on.stage.deploy({ probes: [events({ version: '2.0' }), probe(name)] });
      if (answer.status === 'applied' && name !== 'no-such-tracepoint') return t.diagnostic('this kernel can do it');

      assert.deepEqual([answer.status, answer.code, answer.undone], ['failed', 'ATTACH_FAILED', true]);
      assert.match(answer.message ?? '', words);
      assert.match(answer.errors[0]?.path ?? '', /^0\.bpf_programs\.probes\.1/);
      assert.deepEqual(await on.stage.kernel(), before);
    });
  }

  test('the config that an agent returns changes nothing when it is sent again', async () => {
    await on.stage.deploy({ probes: [events(), probe('calls', { admin_status: 'disabled' })] });

    const config = await on.stage.fleet.request(on.stage.host, 'config', {});
    assert.equal((await on.stage.send('deploy', config)).status, 'unchanged');
    const { programs } = await on.stage.fleet.programs(on.stage.host);
    assert.deepEqual(
      programs.map(({ iface, direction, name, running, prog_id: id }) => [
        iface,
        direction,
        name,
        running,
        id !== undefined,
      ]),
      [
        ['', '', 'calls', false, false],
        ['', '', 'events', true, true],
      ],
    );
  });
});
