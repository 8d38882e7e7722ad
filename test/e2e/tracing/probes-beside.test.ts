import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { type KernelState, namesOf, numberIn, surviving } from '../support/kernel.js';
import { openProbesStage, type ProbesStage, probe, watching } from '../support/probes.js';
import { DISCARD_PORT, eventually } from '../support/stage.js';

const CALLS = 100;

let on: ProbesStage;
before(async () => {
  on = await openProbesStage('probes-beside', 1000);
});
after(() => on.close());

describe('a tracepoint in the object of an XDP program', () => {
  afterEach(() => on.clear());

  const beside = (changes: Partial<PayloadProgram> = {}): PayloadProgram =>
    probe('beside', {
      map_name: 'beside_next',
      entry_function_name: 'xdp_beside',
      ...watching(on.pid),
      ...changes,
    });
  const marks = (number: 1 | 2, seq: number) => payloadProgram(`xdp-mark-${number}`, { seq_id: seq });
  const countedBeside = async (kind: number) =>
    (await numberIn(on.stage.xdpMap('beside', '1.0', 'event_counts'), Uint8Array.of(kind, 0))) ?? 0;
  const probeLinks = (state: KernelState) => state.links.filter(({ pin }) => pin.startsWith('progs/'));

  test('is attached with the program, shares its maps, and is removed with it', async () => {
    const deployed = await on.stage.deploy({ xdp_ingress: [marks(1, 1), beside({ seq_id: 2 })] });
    assert.equal(deployed.status, 'applied', deployed.message);
    assert.deepEqual(namesOf(await on.stage.chain()), ['xdp-mark-1@1.0', 'beside@1.0']);
    const before = await on.stage.kernel();
    assert.equal(probeLinks(before).length, 1);
    const { hooks } = await on.stage.fleet.request(on.stage.host, 'chains', {});
    const shown = hooks.flatMap(({ strands }) =>
      strands.flatMap(({ members }) => members.flatMap((one) => one.probes ?? [])),
    );
    assert.deepEqual(
      shown.map(({ name, link_id: id }) => [name, id]),
      probeLinks(before).map(({ id }) => ['on_getpgid', id]),
    );

    await on.probed.call(CALLS);
    await on.stage.receive(CALLS, DISCARD_PORT);
    await eventually(
      () => countedBeside(0),
      (count) => count >= CALLS,
      'packets are counted',
    );
    assert.deepEqual([await countedBeside(0), await countedBeside(1)], [CALLS, CALLS]);
    assert.equal((await on.stage.deploy({ xdp_ingress: [marks(1, 1), beside({ seq_id: 2 })] })).status, 'unchanged');
    assert.deepEqual(await on.stage.kernel(), before);

    await on.stage.delete({ xdp_ingress: ['beside'] });
    const links = new Set(probeLinks(before).map(({ id }) => id));
    assert.deepEqual(surviving({ prog: new Set(), map: new Set(), link: links }), []);
    assert.deepEqual(namesOf(await on.stage.chain()), ['xdp-mark-1@1.0']);
  });

  test('stays as it is while the program is loaded again for another place, and counts everything once', async () => {
    await on.stage.deploy({ xdp_ingress: [beside({ seq_id: 1 }), marks(1, 2), marks(2, 3)] });
    await on.probed.call(CALLS);
    const [before] = probeLinks(await on.stage.kernel());

    const moved = await on.stage.deploy({ xdp_ingress: [marks(2, 1), beside({ seq_id: 2 }), marks(1, 3)] });

    assert.equal(moved.status, 'applied', moved.message);
    assert.deepEqual(namesOf(await on.stage.chain()), ['xdp-mark-2@1.0', 'beside@1.0', 'xdp-mark-1@1.0']);
    const [after, ...others] = probeLinks(await on.stage.kernel());
    assert.deepEqual([after?.id, after?.programId, others], [before?.id, before?.programId, []]);
    await on.probed.call(CALLS);
    assert.equal(await countedBeside(1), 2 * CALLS);
  });

  test('is attached again with its program when somebody unpins it, and the counts stay', async () => {
    await on.stage.deploy({ xdp_ingress: [beside()] });
    await on.probed.call(CALLS);
    const [link] = probeLinks(await on.stage.kernel());

    rmSync(join(on.stage.bpffs, link!.pin));

    const isGone = async () => !existsSync(dirname(join(on.stage.bpffs, link!.pin)));
    await eventually(isGone, (gone) => gone, 'what lacks the link is replaced');
    await on.probed.call(CALLS);
    assert.equal(await countedBeside(1), 2 * CALLS);
    assert.equal(probeLinks(await on.stage.kernel()).length, 1);
  });

  test('is told in plan and answer if it is of a kind that the agent does not attach', async () => {
    const mixed = probe('mixed', { map_name: 'mixed_next', entry_function_name: 'xdp_mixed' });
    const told =
      'mixed: the agent does not attach on_sample (perf_event), on_socket (sockops) of its object; a companion can';

    const { notes } = await on.stage.fleet.request(on.stage.host, 'plan', {
      verb: 'deploy',
      payload: on.stage.payload({ xdp_ingress: [mixed] }),
    });
    const answer = await on.stage.deploy({ xdp_ingress: [mixed] });

    assert.deepEqual([notes, answer.status, answer.message], [[told], 'applied', told]);
    assert.equal((await on.stage.deploy({ xdp_ingress: [mixed] })).message, undefined);
  });

  test('is not attached by a plan', async () => {
    const { outcomes, changes } = await on.stage.fleet.request(on.stage.host, 'plan', {
      verb: 'deploy',
      payload: on.stage.payload({ xdp_ingress: [beside()] }),
    });
    assert.deepEqual([changes, outcomes.map(({ result }) => result)], [true, ['started']]);
    assert.deepEqual((await on.stage.kernel()).entries, []);
  });
});
