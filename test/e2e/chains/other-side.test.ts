import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type PackageSpec, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { until } from '../../support/until.js';
import { mapOf } from '../support/chain.js';
import { bpftool, numberIn } from '../support/kernel.js';
import { PLATFORM, PROBE_PORT, Stage } from '../support/stage.js';

/*
 * A program at both sides of TC that has one map for both sides: native/bpf/tc_switch.bpf.c.
 */

const NAME = 'tc-switch';

const packages = ['1.0', '2.0'].map(
  (version): PackageSpec => ({
    name: NAME,
    version,
    platform: PLATFORM,
    artifact: `${NAME}.tar.gz`,
    files: { 'tc_switch.bpf.o': builtObject('tc_switch') },
  }),
);

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'other-side', packages });
});
after(() => stage.close());

function program(version = '1.0'): PayloadProgram {
  return {
    ...payloadProgram('tc-count'),
    name: NAME,
    version,
    artifact: `${NAME}.tar.gz`,
    object_file: 'tc_switch.bpf.o',
    entry_function_name: 'tc_switch',
    map_name: 'tc_switch_next',
  };
}

/** Writes to the public name, as the companion of either side does. */
async function turnOn(version = '1.0'): Promise<void> {
  const path = stage.tcMap(NAME, version, 'switch_on');
  await bpftool(
    'map',
    'update',
    'pinned',
    path,
    'key',
    'hex',
    ...'00 00 00 00 value hex 01 00 00 00 00 00 00 00'.split(' '),
  );
}

async function countedAt(direction: 'ingress' | 'egress'): Promise<number> {
  const member = (await stage.chain(direction))!.members.at(-1)!;
  return (await numberIn(mapOf(stage, member, 'switch_packets'))) ?? 0;
}

/** Other traffic on the interface is counted, too. */
async function assertCounts(isOn: boolean): Promise<void> {
  const counted = async () => [await countedAt('ingress'), await countedAt('egress')] as const;
  const before = await counted();
  await stage.receive(30, PROBE_PORT);
  await stage.transmit(20, PROBE_PORT);
  await until('both sides count as they are told to', async () => {
    const [ingress, egress] = await counted();
    return isOn ? ingress - before[0] >= 30 && egress - before[1] >= 20 : ingress + egress === 0;
  });
}

test('the programs of both sides, in each version, share one map that is pinned by name', async () => {
  const applied = async (answer: ReturnType<Stage['deploy']>) => {
    const { status, code, message } = await answer;
    assert.deepEqual([status, code], ['applied', undefined], message);
  };
  await applied(stage.deploy({ tc_ingress: [program()], tc_egress: [program()] }));
  await assertCounts(false);
  await turnOn();
  await assertCounts(true);

  await applied(stage.delete({ tc_ingress: [NAME] }));
  await applied(stage.add({ tc_ingress: [program()] }));
  await assertCounts(true);

  await applied(stage.deploy({ tc_ingress: [program('2.0')], tc_egress: [program('2.0')] }));
  await assertCounts(false);
  await turnOn('2.0');
  await assertCounts(true);
});
