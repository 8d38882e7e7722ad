import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { payloadProgram } from '../../support/packages.js';
import { numberIn } from '../support/kernel.js';
import { Stage } from '../support/stage.js';

/*
 * `carry_maps`: tables that survive an update of the program that owns them.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'carrying' });
});
after(() => stage.close());

const counting = (version: string, carry_maps: readonly string[]) => ({
  xdp_ingress: [
    { ...payloadProgram('port-count', { seq_id: 1, version }), carry_maps },
    payloadProgram('port-drop', { seq_id: 2 }),
  ],
});
const countedBy = (version: string) => numberIn(stage.xdpMap('port-count', version, 'packet_count'));

test('a new version takes over the maps in `carry_maps`, and gets new ones for the rest', async () => {
  await stage.deploy(counting('1.0', []));
  await stage.receive(100, 8080);

  const { programs } = await stage.deploy(counting('2.0', ['packet_count']));
  await stage.receive(20, 8080);

  assert.equal(programs[0]!.result, 'updated');
  assert.equal(await countedBy('2.0'), 120);
  assert.equal(await numberIn(stage.xdpMap('port-count', '2.0', 'port_packets'), Buffer.from('901f', 'hex')), 20);
});

test('without `carry_maps` nothing is taken over', async () => {
  await stage.deploy(counting('1.0', []));
  await stage.receive(7, 8080);
  assert.equal(await countedBy('1.0'), 7);
});

test('a map that the running version does not have is refused before anything changes', async () => {
  const before = await stage.chain();
  const answer = await stage.deploy(counting('2.0', ['packet_count', 'connections']));

  assert.deepEqual([answer.status, answer.code], ['failed', 'MAP_NOT_FOUND']);
  assert.equal(answer.errors[0]!.path, '0.bpf_programs.xdp_ingress.0.carry_maps.1');
  assert.deepEqual(await stage.chain(), before);
});
