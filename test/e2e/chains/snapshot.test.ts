import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { bpftool } from '../support/kernel.js';
import { Stage } from '../support/stage.js';

/*
 * What a host reports of itself, compared with what the kernel says (`L3AFMetaData` and `L3AFALLHOSTDATA` of l3afd's
 * models/l3afd.go), and which of its counters count.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'snapshot', env: { L3AF_METRICS_ADDR: '127.0.0.1:0' } });
});
after(() => stage.close());

const deploy = (...xdp_ingress: PayloadProgram[]) => stage.deploy({ xdp_ingress });
const mapIdAt = async (pin: string) => (await bpftool<{ id: number }>('map', 'show', 'pinned', pin)).id;
const state = () => stage.fleet.request(stage.host, 'state', {});

test('each program of a chain is reported with its slot, its predecessor, its maps and its link', async () => {
  const marks = [1, 2].map((id) => payloadProgram(`xdp-mark-${id as 1 | 2}`, { seq_id: id }));
  await deploy(...marks);
  const { iface } = stage.bed;
  const chain = (await stage.chain())!;

  const told = await state();

  const list = told.IngressXDPBpfs[iface]!;
  assert.deepEqual(
    list.map(({ Program }) => Program.name),
    ['xdp-root', 'xdp-mark-1', 'xdp-mark-2'],
  );
  assert.deepEqual(
    list.map(({ ProgID }) => ProgID),
    chain.members.map(({ programId }) => programId),
  );
  const slots = [
    stage.xdpMap('xdp-root', 'latest', 'xdp_root_array'),
    stage.xdpMap('xdp-mark-1', '1.0', 'mark_next'),
    stage.xdpMap('xdp-mark-2', '1.0', 'mark_next'),
  ];
  const ids = await Promise.all(slots.map(mapIdAt));
  assert.deepEqual(
    list.map(({ MapNamePath, PrevMapNamePath }) => [MapNamePath, PrevMapNamePath]),
    slots.map((slot, index) => [slot, slots[index - 1] ?? '']),
  );
  assert.deepEqual(
    list.map(({ ProgMapID, PrevProgMapID }) => [ProgMapID, PrevProgMapID]),
    ids.map((id, index) => [id, ids[index - 1] ?? 0]),
  );
  assert.deepEqual(
    list.map(({ Link }) => Link),
    [true, false, false],
  );
  assert.deepEqual(
    list.map(({ BpfMaps }) => BpfMaps),
    [[], ['mark_id'], ['mark_id']],
  );
  const [, first] = list;
  assert.deepEqual(first!.ProgMapCollection.Programs, ['xdp_mark']);
  assert.deepEqual(first!.ProgMapCollection.Maps.toSorted(), [
    'mark_id',
    'mark_order',
    'mark_packets',
    'mark_paths',
    'mark_seen',
  ]);
  assert.deepEqual(
    list.map(({ FilePath }) => FilePath),
    chain.members.map(({ dir }) => `${stage.bpffs}/${dir}`),
  );
  assert.equal(told.HostInterfaces[iface], true);
  assert.deepEqual(told.Ifaces, { [iface]: iface });
});

test('a first deploy that fails and an update that fails are counted separately', async () => {
  const failures = async () => {
    const { AllStats } = await state();
    const of = (name: string) =>
      AllStats.filter(({ MetricName }) => MetricName === name).map(({ Labels, Value }) => [
        Labels.find(({ Name }) => Name === 'ebpf_program')?.Value,
        Value,
      ]);
    return { deploy: of('l3afd_BPFDeployFailedCount'), update: of('l3afd_BPFUpdateFailedCount') };
  };
  await deploy(payloadProgram('port-drop'));
  assert.equal((await deploy(payloadProgram('port-drop'), payloadProgram('broken', { seq_id: 2 }))).status, 'failed');
  assert.deepEqual(await failures(), { deploy: [['broken', 1]], update: [] });

  const update = payloadProgram('port-drop', { version: '2.0', entry_function_name: 'nothing' });
  assert.equal((await deploy(update)).status, 'failed');
  assert.deepEqual(await failures(), { deploy: [['broken', 1]], update: [['port-drop', 1]] });
});
