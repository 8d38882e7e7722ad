import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DIRECTIONS, type Direction } from '../../support/directions.js';

import { payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { assertChain, assertPublicMaps, mapOf, marks } from '../support/chain.js';
import { type Chain, numberIn, programIdsOf } from '../support/kernel.js';
import { DISCARD_PORT, eventually, PLATFORM, Stage } from '../support/stage.js';

/*
 * Roots from packages of the repository, by l3afd's configuration names, and the built-in roots.
 */

/** Packets per second. */
const RATE = 3_000;
const NAMES = { xdpingress: 'xdp-mark-1@1.0', ingress: 'tc-mark-1@1.0', egress: 'tc-mark-2@1.0' } as const;
const PROGRAMS = {
  xdp_ingress: marks([1, 2]),
  tc_ingress: marks([1], 'tc'),
  tc_egress: [payloadProgram('tc-mark-2')],
};

/** l3afd's own packages need only the names of their artifacts. */
const L3AFD_ROOTS = { L3AF_XDP_ROOT_ARTIFACT: 'l3af_xdp_root.tar.gz', L3AF_TC_ROOT_ARTIFACT: 'l3af_tc_root.tar.gz' };
/** A root with different names for everything. It counts the packets that pass it. */
const OTHER_ROOT = {
  L3AF_XDP_ROOT_ARTIFACT: 'xdp-mark-5.tar.gz',
  L3AF_XDP_ROOT_PACKAGE_NAME: 'xdp-mark-5',
  L3AF_XDP_ROOT_VERSION: '2.0',
  L3AF_XDP_ROOT_OBJECT_FILE: 'xdp_mark.bpf.o',
  L3AF_XDP_ROOT_ENTRY_FUNCTION_NAME: 'xdp_mark',
  L3AF_XDP_ROOT_INGRESS_MAP_NAME: 'mark_next',
};

let stage: Stage;
before(async () => {
  const root = { version: 'latest', platform: PLATFORM };
  const tcObject = builtObject('tc_root');
  stage = await Stage.open({
    host: 'roots',
    packages: [
      {
        ...root,
        name: 'xdp-root',
        artifact: 'l3af_xdp_root.tar.gz',
        files: { 'xdp_root.bpf.o': builtObject('xdp_root') },
      },
      {
        ...root,
        name: 'tc-root',
        artifact: 'l3af_tc_root.tar.gz',
        files: { 'tc_root_ingress.bpf.o': tcObject, 'tc_root_egress.bpf.o': tcObject },
      },
    ],
  });
  await stage.deploy(PROGRAMS);
});
after(async () => {
  await stage.restart();
  await stage.close();
});

async function chains(): Promise<Record<Direction, Chain>> {
  const found = await Promise.all(
    DIRECTIONS.map(async (at) => [at, (await stage.chain(at)) ?? assert.fail(at)] as const),
  );
  return Object.fromEntries(found) as Record<Direction, Chain>;
}

const idsBehindRoot = ({ members }: Chain) => members.slice(1).map(({ programId }) => programId);
const rootOf = ({ members }: Chain) => members[0]!;

/**
 * Sends packets while something happens, and asserts that the first and the last program of the XDP chain count each
 * one.
 */
async function underTraffic(happens: () => Promise<void>): Promise<void> {
  const counted = async () => {
    const { members } = (await stage.chain())!;
    return Promise.all([members[1]!, members[2]!].map(async (one) => numberIn(mapOf(stage, one, 'mark_packets'))));
  };
  const [before, lostBefore] = [await counted(), await stage.bed.lost()];
  const traffic = await stage.startTraffic(DISCARD_PORT, RATE);
  await happens();
  const arrived = (await traffic.stop()) - ((await stage.bed.lost()) - lostBefore);
  const expected = before.map((count) => (count ?? 0) + arrived);
  await eventually(counted, ([, last]) => last! >= expected[1]!, `${arrived} packets should be counted`);
  assert.deepEqual(await counted(), expected);
}

for (const [what, settings] of [
  ['packages as l3afd has them', L3AFD_ROOTS],
  ['the built-in ones', {}],
] as const) {
  test(`a restart with other roots, ${what}, replaces the roots of the chains, and no program misses a packet`, async () => {
    const before = await chains();

    await underTraffic(() => stage.restart(settings));

    const told = stage.agent.logs().find(({ msg }) => msg.startsWith('repaired'));
    assert.match(
      JSON.stringify(told),
      /xdpingress: keeps the running programs and changes the program by which packets enter/,
    );
    const now = await chains();
    for (const direction of DIRECTIONS) {
      assert.notEqual(rootOf(now[direction]).programId, rootOf(before[direction]).programId, direction);
      assert.deepEqual(idsBehindRoot(now[direction]), idsBehindRoot(before[direction]), 'nothing else is loaded again');
      assert.equal(now[direction].linkId, before[direction].linkId, 'the link has stayed');
      const where = { iface: stage.bed.iface, direction, slot: 'mark_next' };
      assertPublicMaps(await stage.kernel(), now[direction], where);
    }
    await assertChain(stage, [NAMES.xdpingress, 'xdp-mark-2@1.0']);
    await assertChain(stage, [NAMES.ingress], 'ingress');
    await assertChain(stage, [NAMES.egress], 'egress');
    assert.equal((await stage.deploy(PROGRAMS)).status, 'unchanged');
    assert.deepEqual(await stage.leaked(await stage.kernel()), []);
  });
}

test('packets pass a root that is configured by other names, also in a new chain', async () => {
  const before = await chains();
  await underTraffic(() => stage.restart(OTHER_ROOT));

  const { xdpingress, ...tc } = await chains();
  assert.deepEqual([rootOf(xdpingress).name, rootOf(xdpingress).version], ['xdp-root', '2_0']);
  assert.deepEqual(idsBehindRoot(xdpingress), idsBehindRoot(before.xdpingress));
  const { xdpingress: _, ...tcBefore } = before;
  assert.deepEqual(tc, tcBefore, 'the other hooks are not touched');

  await stage.deploy({});
  const { status, programs } = await stage.deploy(PROGRAMS);
  assert.equal(status, 'applied');
  assert.ok(!programs.some(({ name }) => name === 'xdp-root'), 'a root is none of the programs asked for');
  const root = rootOf((await chains()).xdpingress);
  await stage.receive(25, DISCARD_PORT);
  const passed = () => numberIn(mapOf(stage, root, 'mark_packets'));
  await eventually(passed, (count) => count === 25, 'the root should have counted the packets');
  const { IngressXDPBpfs: snapshot } = await stage.fleet.request(stage.host, 'state', {});
  const [told] = snapshot[stage.bed.iface] ?? [];
  assert.deepEqual([told?.Program.name, told?.Program.version, told?.ProgID], ['xdp-root', '2.0', root.programId]);
});

const UNUSABLE = [
  {
    what: 'is not in the repository',
    settings: { ...L3AFD_ROOTS, L3AF_XDP_ROOT_ARTIFACT: 'nowhere.tar.gz' },
    code: 'ARTIFACT_NOT_FOUND',
    message: /fetch package xdp-root latest \(nowhere\.tar\.gz\)/,
  },
  {
    what: 'the verifier refuses',
    settings: {
      L3AF_XDP_ROOT_ARTIFACT: 'broken.tar.gz',
      L3AF_XDP_ROOT_PACKAGE_NAME: 'broken',
      L3AF_XDP_ROOT_VERSION: '1.0',
      L3AF_XDP_ROOT_OBJECT_FILE: 'broken.bpf.o',
      L3AF_XDP_ROOT_ENTRY_FUNCTION_NAME: 'xdp_broken',
      L3AF_XDP_ROOT_INGRESS_MAP_NAME: 'broken_next',
    },
    code: 'VERIFIER_REJECTED',
    message: /load xdp-root 1\.0 .*verifier/,
  },
] as const;
for (const { what, settings, code, message } of UNUSABLE) {
  test(`with a root package that ${what}, the agent starts, the chains stay, and commands are refused`, async () => {
    // given chains on the built-in roots
    await stage.restart();
    await stage.deploy(PROGRAMS);
    const standing = await chains();

    // when the agent starts with a root that is not available, and a command adds to the chain
    await underTraffic(async () => {
      await stage.restart(settings);
      const ack = await stage.add({ xdp_ingress: [payloadProgram('xdp-mark-3', { seq_id: 30 })] });

      // then the command is refused with the reason
      assert.deepEqual([ack.status, ack.code, ack.undone], ['failed', code, true], ack.message);
      assert.match(ack.message ?? '', message);
    });

    // and the chain is as before, its root keeps its names, and the snapshot shows it
    assert.deepEqual((await chains()).xdpingress, standing.xdpingress);
    const where = { iface: stage.bed.iface, direction: 'xdpingress', slot: 'mark_next' } as const;
    assertPublicMaps(await stage.kernel(), standing.xdpingress, where);
    const { IngressXDPBpfs: snapshot } = await stage.fleet.request(stage.host, 'state', {});
    assert.deepEqual(
      snapshot[stage.bed.iface]?.map(({ ProgID }) => ProgID),
      Object.values(programIdsOf(standing.xdpingress)),
    );
    const complaint = stage.agent.logs().find(({ msg }) => msg.includes('desired state'));
    assert.match(JSON.stringify(complaint), new RegExp(code));
  });
}
