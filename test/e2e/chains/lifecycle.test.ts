import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { assertChain, assertLinked, assertPublicMaps, marks, resultsOf } from '../support/chain.js';
import { attachedXdp, bpftool, numberIn, programIdsOf } from '../support/kernel.js';
import { eventually, PLATFORM, Stage } from '../support/stage.js';

/*
 * What commands do to chains, as bpftool and packets show it.
 */

const HOST = 'lifecycle';

let stage: Stage;
before(async () => {
  const relay = { name: 'relay', version: '1.0', platform: PLATFORM, artifact: 'relay.tar.gz' };
  const mark = { name: 'xdp-mark-2', version: '1.0', platform: PLATFORM, artifact: 'rebuilt.tar.gz' };
  const packages = [
    { ...relay, files: { 'tc_root.bpf.o': builtObject('tc_root') } },
    { ...mark, files: { 'xdp_mark.bpf.o': builtObject('xdp_mark') } },
  ];
  stage = await Stage.open({ host: HOST, packages });
});
after(() => stage.close());

test('a deploy published by a stock client starts the chains; the same again changes nothing', async () => {
  // given a client that uses nothing but core NATS, and a payload in l3afd's form
  const acks = stage.nats.subscribe(`l3af.ack.${HOST}`)[Symbol.asyncIterator]();
  const nextAck = async () => (await acks.next()).value?.json() as Record<string, unknown>;
  const payload = [
    {
      host_name: HOST,
      iface: stage.bed.iface,
      ipv4_address: stage.bed.address,
      bpf_programs: {
        xdp_ingress: marks([1, 2, 3]),
        tc_ingress: marks([1], 'tc'),
        tc_egress: marks([2], 'tc'),
        probes: null,
      },
    },
  ];
  const publish = () => stage.nats.publish(`l3af.cmd.${HOST}.deploy`, JSON.stringify(payload));

  // when it is published
  publish();
  const first = await nextAck();

  // then the chains run, and the answer has the kernel's own program ids
  assert.equal(first.status, 'applied', JSON.stringify(first));
  assert.match(String(first.id), /^L3AF_CMD:\d+$/);
  const chains = {
    xdpingress: await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0']),
    ingress: await assertChain(stage, ['tc-mark-1@1.0'], 'ingress'),
    egress: await assertChain(stage, ['tc-mark-2@1.0'], 'egress'),
  };
  const told = first.programs as { direction: keyof typeof chains; name: string; prog_id: number; result: string }[];
  assert.deepEqual(
    told.map(({ direction, name, prog_id: id, result }) => [direction, name, id, result]),
    (['xdpingress', 'ingress', 'egress'] as const).flatMap((direction) =>
      chains[direction].members.slice(1).map(({ name, programId }) => [direction, name, programId, 'started']),
    ),
  );
  assert.equal(await attachedXdp(stage.bed.iface), chains.xdpingress.members[0]?.programId);
  const state = await stage.kernel();
  for (const direction of ['xdpingress', 'ingress', 'egress'] as const) {
    assertPublicMaps(state, chains[direction], { iface: stage.bed.iface, direction, slot: 'mark_next' });
  }

  // and when it is published again, then nothing changes
  publish();
  const second = await nextAck();
  assert.equal(second.status, 'unchanged', JSON.stringify(second));
  assert.deepEqual(await stage.kernel(), state);
});

test('programs are added at their place and deleted from any place; the last one removes the root too', async () => {
  // given a chain with room in the middle
  const [first, second, third] = marks([1, 2, 3]) as [PayloadProgram, PayloadProgram, PayloadProgram];
  await stage.deploy({ xdp_ingress: [first, third] });
  const before = programIdsOf(await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-3@1.0']));

  // when a program is added in the middle, then only that program is new
  const added = await stage.add({ xdp_ingress: [second] });
  assert.deepEqual(resultsOf(added), {
    'xdp-mark-1': 'unchanged',
    'xdp-mark-2': 'started',
    'xdp-mark-3': 'unchanged',
  });
  const { 'xdp-mark-2': middle, ...others } = programIdsOf(
    await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0']),
  );
  assert.deepEqual(others, before);

  // when it is added again, or an unknown name is deleted, then nothing changes
  assert.equal((await stage.add({ xdp_ingress: [second] })).status, 'unchanged');
  assert.equal((await stage.delete({ xdp_ingress: ['nobody'] })).status, 'unchanged');
  assert.equal(programIdsOf(await stage.chain())['xdp-mark-2'], middle);

  // when the middle, the head and the tail are deleted, then the rest closes up
  assert.equal(resultsOf(await stage.delete({ xdp_ingress: ['xdp-mark-2'] }))['xdp-mark-2'], 'stopped');
  assert.deepEqual(programIdsOf(await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-3@1.0'])), before);
  await stage.add({ xdp_ingress: [second] });
  await stage.delete({ xdp_ingress: ['xdp-mark-1'] });
  await assertChain(stage, ['xdp-mark-2@1.0', 'xdp-mark-3@1.0']);
  await stage.delete({ xdp_ingress: ['xdp-mark-3'] });
  await assertChain(stage, ['xdp-mark-2@1.0']);

  // when the last program is deleted, then nothing is attached or pinned any more
  await stage.delete({ xdp_ingress: ['xdp-mark-2'] });
  assert.equal(await attachedXdp(stage.bed.iface), undefined);
  const state = await stage.kernel();
  assert.deepEqual(state.entries, []);
  assert.deepEqual(await stage.leaked(state), []);
});

test('new seq_ids change the order of the programs, which keep their counters', async () => {
  // given a chain that has counted packets
  await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });
  await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0']);
  const packets = (name: string) => numberIn(stage.xdpMap(name, '1.0', 'mark_packets'));
  const counted = await packets('xdp-mark-3');
  assert.ok(counted! > 0);

  // when the last program becomes the first
  const { status, programs } = await stage.deploy({ xdp_ingress: marks([3, 1, 2]) });

  // then packets pass in the new order, each program once, and the same maps continue to count
  assert.equal(status, 'applied');
  assert.deepEqual(
    programs.map(({ name, result }) => [name, result]),
    [
      ['xdp-mark-3', 'moved'],
      ['xdp-mark-1', 'moved'],
      ['xdp-mark-2', 'moved'],
    ],
  );
  assert.equal(await packets('xdp-mark-3'), counted);
  const chain = await assertChain(stage, ['xdp-mark-3@1.0', 'xdp-mark-1@1.0', 'xdp-mark-2@1.0']);
  assertPublicMaps(await stage.kernel(), chain, {
    iface: stage.bed.iface,
    direction: 'xdpingress',
    slot: 'mark_next',
  });
});

test('a disabled program is left out of the chain until it is enabled', async () => {
  const [first, second, third] = marks([1, 2, 3]) as [PayloadProgram, PayloadProgram, PayloadProgram];
  await stage.deploy({ xdp_ingress: [first, second, third] });
  const ids = programIdsOf(await stage.chain());

  const disabled = await stage.deploy({ xdp_ingress: [first, { ...second, admin_status: 'disabled' }, third] });
  assert.equal(resultsOf(disabled)['xdp-mark-2'], 'disabled');
  const { 'xdp-mark-2': middle, ...others } = ids;
  assert.deepEqual(programIdsOf(await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-3@1.0'])), others);
  assert.deepEqual(await stage.leaked(await stage.kernel()), [], 'the disabled program is gone from the kernel');

  const enabled = await stage.deploy({ xdp_ingress: [first, second, third] });
  assert.equal(resultsOf(enabled)['xdp-mark-2'], 'started');
  const chain = await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0']);
  assert.notEqual(programIdsOf(chain)['xdp-mark-2'], middle);
});

test('the deletion of a disabled program is a change', async () => {
  const [first, second] = marks([1, 2]) as [PayloadProgram, PayloadProgram];
  await stage.deploy({ xdp_ingress: [first, { ...second, admin_status: 'disabled' }] });

  const deleted = await stage.delete({ xdp_ingress: ['xdp-mark-2'] });
  assert.deepEqual([deleted.status, resultsOf(deleted)['xdp-mark-2']], ['applied', 'stopped']);

  const again = await stage.delete({ xdp_ingress: ['xdp-mark-2'] });
  assert.deepEqual([again.status, resultsOf(again)['xdp-mark-2']], ['unchanged', 'unchanged']);
});

test('a new version replaces one program, and its maps have the public names', async () => {
  const [first, second, third] = marks([1, 2, 3]) as [PayloadProgram, PayloadProgram, PayloadProgram];
  await stage.deploy({ xdp_ingress: [first, second, third] });
  const { 'xdp-mark-2': old, ...others } = programIdsOf(await stage.chain());

  const ack = await stage.deploy({ xdp_ingress: [first, { ...second, version: '2.0' }, third] });

  assert.equal(resultsOf(ack)['xdp-mark-2'], 'updated');
  const chain = await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@2.0', 'xdp-mark-3@1.0']);
  const { 'xdp-mark-2': updated, ...neighbours } = programIdsOf(chain);
  assert.notEqual(updated, old);
  assert.deepEqual(neighbours, others);
  const state = await stage.kernel();
  assertPublicMaps(state, chain, { iface: stage.bed.iface, direction: 'xdpingress', slot: 'mark_next' });
  const remains = state.entries.filter((entry) => entry.includes('xdp-mark-2/1_0'));
  assert.deepEqual(remains, [], 'of the old version no pin is left');
  assert.deepEqual(await stage.leaked(state), []);
});

test('new map_args change the map of the running program', async () => {
  // given a program that drops packets to one port
  const dropping = (port: number) =>
    stage.deploy({
      xdp_ingress: [
        payloadProgram('port-count', { seq_id: 1 }),
        payloadProgram('port-drop', { seq_id: 2, map_args: [{ name: 'drop_ports', args: [{ key: port, value: 1 }] }] }),
      ],
    });
  const dropPorts = async () => {
    const dump = await bpftool<{ formatted: { key: number; value: number } }[]>(
      ...['map', 'dump', 'pinned', stage.xdpMap('port-drop', '1.0', 'drop_ports')],
    );
    return dump.map(({ formatted }) => formatted);
  };
  const dropped = () => numberIn(stage.xdpMap('port-drop', '1.0', 'dropped_count'));
  await dropping(7777);
  const ids = programIdsOf(await assertLinked(stage, ['port-count@1.0', 'port-drop@1.0']));
  await stage.receive(30, 7777);
  await eventually(dropped, (count) => count === 30, '30 packets should be dropped');

  // when the command names another port
  const { status, programs } = await dropping(8888);

  // then the entry is changed, the programs are the same, and the new port is dropped
  assert.equal(status, 'applied');
  assert.deepEqual(resultsOf({ programs }), { 'port-count': 'unchanged', 'port-drop': 'updated' });
  assert.deepEqual(await dropPorts(), [{ key: 8888, value: 1 }]);
  assert.deepEqual(programIdsOf(await stage.chain()), ids);
  await stage.receive(20, 7777);
  await stage.receive(5, 8888);
  await eventually(dropped, (count) => count === 35, '5 packets more should be dropped');
});

test('a new artifact or a new entry function under the same version is an update', async () => {
  // given a chain of markers, and a program whose object has two functions
  const [first, second] = marks([1, 2]) as [PayloadProgram, PayloadProgram];
  const relay = payloadProgram('tc-mark-1', {
    name: 'relay',
    artifact: 'relay.tar.gz',
    object_file: 'tc_root.bpf.o',
    map_args: [],
    entry_function_name: 'tc_ingress_root',
    map_name: 'tc_ingress_root_array',
  });
  await stage.deploy({ xdp_ingress: [first, second], tc_ingress: [relay] });
  const [xdp, tc] = [programIdsOf(await stage.chain()), programIdsOf(await stage.chain('ingress'))];

  // when one has a new artifact, and the other starts at its other function
  const ack = await stage.deploy({
    xdp_ingress: [first, { ...second, artifact: 'rebuilt.tar.gz' }],
    tc_ingress: [{ ...relay, entry_function_name: 'tc_egress_root', map_name: 'tc_egress_root_array' }],
  });

  // then both are loaded again
  assert.deepEqual(resultsOf(ack), { 'xdp-mark-1': 'unchanged', 'xdp-mark-2': 'updated', relay: 'updated' });
  const chain = programIdsOf(await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0']));
  assert.equal(chain['xdp-mark-1'], xdp['xdp-mark-1']);
  assert.notEqual(chain['xdp-mark-2'], xdp['xdp-mark-2']);
  const relayed = await assertLinked(stage, ['relay@1.0'], 'ingress');
  assert.notEqual(programIdsOf(relayed).relay, tc.relay);
  const { name } = await bpftool<{ name: string }>('prog', 'show', 'id', String(programIdsOf(relayed).relay));
  assert.equal(name, 'tc_egress_root');
});

test('one program runs at both sides of TC, with separate maps for each side', async () => {
  // given the same program, name and version, in both directions
  await stage.deploy({ tc_ingress: marks([1, 2], 'tc'), tc_egress: marks([1, 3], 'tc') });

  // then each direction counts its own packets
  const ingress = await assertChain(stage, ['tc-mark-1@1.0', 'tc-mark-2@1.0'], 'ingress');
  const egress = await assertChain(stage, ['tc-mark-1@1.0', 'tc-mark-3@1.0'], 'egress');
  assert.notEqual(ingress.members[1]?.programId, egress.members[1]?.programId);

  // and when it is removed from one side, then the other one stays and has the public names
  await stage.delete({ tc_ingress: ['tc-mark-1', 'tc-mark-2'] });
  assert.equal(await stage.chain('ingress'), undefined);
  const rest = await assertChain(stage, ['tc-mark-1@1.0', 'tc-mark-3@1.0'], 'egress');
  assert.deepEqual(programIdsOf(rest), programIdsOf(egress));
  const where = { iface: stage.bed.iface, direction: 'egress', slot: 'mark_next' } as const;
  assertPublicMaps(await stage.kernel(), rest, where);
});
