import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { Lane } from '../../../src/apply/lane.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import type { DesiredState } from '../../../src/domain/desired.js';
import { type ChainSources, readChains } from '../../../src/queries/chains.js';
import { builtPackages, desiredAt, noCompanions, planContext, program } from '../../support/chains.js';
import { reconcile } from '../../support/in-turn.js';

const BPFFS = '/sys/fs/bpf';
const hook = { iface: 'eth7', direction: 'xdpingress' } as const;
const wanted = desiredAt(hook, program('a', 10), program('b', 20), program('off', 30, { enabled: false }));

describe('the chains of a host', () => {
  let sources: ChainSources;
  let desired: DesiredState | null;
  let lane: Lane;

  beforeEach(async () => {
    const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['eth7', 7]]) });
    const context = planContext(BPFFS);
    desired = wanted;
    lane = new Lane();
    sources = {
      hostName: 'web1',
      datapath,
      lane,
      context,
      desired: () => desired,
      companions: () => [],
      pause: async () => undefined,
    };
    const { status } = await reconcile(
      { before: null, desired: wanted },
      { datapath, packages: builtPackages, companions: noCompanions },
      context,
    );
    assert.equal(status, 'applied');
  });

  it('show what packets pass, and what is desired', async () => {
    const { known, hooks } = await readChains(sources, undefined, undefined);

    const [at] = hooks;
    assert.deepEqual(
      [known, hooks.length, at?.iface, at?.interface_present, at?.differences],
      [true, 1, 'eth7', true, []],
    );
    const [subchain] = at?.strands ?? [];
    assert.deepEqual([subchain?.attachment?.kind, subchain?.attachment?.attached], ['xdp', true]);
    const members = subchain?.members.map(({ name, version, root }) => [name, version, root]);
    assert.deepEqual(members, [
      ['xdp-root', 'latest', true],
      ['a', '1.0', false],
      ['b', '1.0', false],
    ]);
    const next = subchain?.members.map(({ slot }) => slot?.next);
    assert.deepEqual(next, [...(subchain?.members.slice(1).map(({ prog_id: id }) => id) ?? []), null]);
    assert.deepEqual(
      at?.desired.map(({ name, admin_status: status }) => `${name} ${status}`),
      ['a enabled', 'b enabled', 'off disabled'],
    );
  });

  it('differ from what is desired if a companion does not run', async () => {
    const companion = { hook, package: { name: 'b' }, version: '1.0', restarts: 3 };
    for (const [condition, words] of [
      ['given-up', 'was given up after 3 restarts'],
      ['waiting', 'is to be started again after 3 restarts'],
    ] as const) {
      const companions = () => [{ ...companion, condition }];
      const { hooks } = await readChains({ ...sources, companions }, undefined, undefined);
      assert.deepEqual(hooks[0]?.differences, [
        { kind: 'companion', programs: ['b'], text: `The companion of b ${words}` },
      ]);
    }
    const companions = () => [{ ...companion, condition: 'running' as const }];
    assert.deepEqual((await readChains({ ...sources, companions }, undefined, undefined)).hooks[0]?.differences, []);
  });

  it('include the probes of the host, unless one interface is requested', async () => {
    assert.equal((await readChains(sources, undefined, undefined)).probes, undefined);
    const { datapath, context } = sources;
    const probe = program('p', 0, { mapName: '', objectFile: 'exec_count.bpf.o', entryFunction: '' });
    desired = { ...wanted, probes: [probe, { ...probe, name: 'off', enabled: false }] };
    const tools = { datapath, packages: builtPackages, companions: noCompanions };
    assert.equal((await reconcile({ before: wanted, desired }, tools, context)).status, 'applied');

    const { probes } = await readChains(sources, undefined, undefined);

    assert.deepEqual(
      probes?.standing.map(({ name, version }) => `${name} ${version}`),
      ['p 1.0'],
    );
    const [part] = probes?.standing[0]?.functions ?? [];
    assert.ok(part?.prog_id !== undefined && part.link_id !== undefined);
    assert.deepEqual(
      probes?.desired.map(({ name, admin_status: status }) => `${name} ${status}`),
      ['p enabled', 'off disabled'],
    );
    assert.deepEqual(probes?.differences, []);
    assert.equal((await readChains(sources, 'eth7', undefined)).probes, undefined);
    desired = wanted;
    assert.deepEqual(
      (await readChains(sources, undefined, undefined)).probes?.differences.map(({ kind }) => kind),
      ['extra'],
    );
  });

  it('are those of one interface if it is requested', async () => {
    assert.equal((await readChains(sources, 'eth7', undefined)).hooks.length, 1);
    assert.deepEqual((await readChains(sources, 'eth8', undefined)).hooks, []);
  });

  it('show no differences while the desired state is unknown', async () => {
    desired = null;

    const { known, hooks } = await readChains(sources, undefined, undefined);

    assert.deepEqual([known, hooks[0]?.differences, hooks[0]?.desired], [false, [], []]);
  });

  it('are shown if nothing of them is attached, and if nothing of what is attached is desired', async () => {
    desired = desiredAt({ iface: 'gone0', direction: 'ingress' }, program('c', 1, {}, 'ingress'));

    const { hooks } = await readChains(sources, undefined, undefined);

    assert.deepEqual(
      hooks.map(({ iface, interface_present: present, differences }) => [
        iface,
        present,
        differences.map(({ kind }) => kind),
      ]),
      [
        ['gone0', false, ['interface-absent']],
        ['eth7', true, ['extra', 'extra', 'extra']],
      ],
    );
  });

  it('are counted while commands continue', async () => {
    let goOn: (value: unknown) => void = () => undefined;
    const pausing = new Promise<number>((paused) => {
      const pause = (ms: number) => {
        paused(ms);
        return new Promise((resolve) => {
          goOn = resolve;
        });
      };
      sources = { ...sources, pause };
    });
    const counted = readChains(sources, undefined, 2_000);
    assert.equal(await pausing, 2_000);

    await lane.run(async () => undefined);
    goOn(undefined);

    const { window_ms: window, hooks } = await counted;
    assert.ok(window !== undefined && window > 0);
    assert.deepEqual(hooks[0]?.strands[0]?.recent_runs, { count: 0, time_ns: 0 });
  });
});
