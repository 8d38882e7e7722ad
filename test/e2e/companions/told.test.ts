import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { processesWith } from '../../support/companions.js';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { run } from '../../support/tool.js';
import { resultsOf } from '../support/chain.js';
import { bpftool, programIdsOf } from '../support/kernel.js';
import { PLATFORM, Stage } from '../support/stage.js';

/*
 * A companion that fills the maps of its program by what it is told: port-drop drops the ports that its companion was
 * started with. What it was told before must not stay in the maps.
 */

let stage: Stage;
before(async () => {
  const { stdout: tool } = await run('sh', ['-c', 'command -v bpftool || echo /usr/sbin/bpftool']);
  const script = `#!/bin/sh
for option; do case $option in
  --iface=*) iface=\${option#*=} ;; --version=*) version=\${option#*=} ;; --bpffs=*) bpffs=\${option#*=} ;;
  --low=*) low=\${option#*=} ;; --high=*) high=\${option#*=} ;; --rules-file=*) read -r low high <"\${option#*=}" ;;
esac; done
[ "$low" != fail ] || { echo 'it fails' >&2; exit 3; }
exec ${tool.trim()} map update pinned "$bpffs/$iface/port-drop/$version/drop_ports" key hex "$low" "$high" value hex 01
`;
  const fed = {
    platform: PLATFORM,
    artifact: 'fed.tar.gz',
    files: { 'port_drop.bpf.o': builtObject('port_drop'), fill: { script } },
  };
  stage = await Stage.open({ host: 'told', packages: [{ name: 'port-drop', version: '1.0', ...fed }] });
});
after(async () => {
  await stage.close();
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});

const told = (low: string, more: Partial<PayloadProgram> & { carry_maps?: readonly string[] } = {}): PayloadProgram =>
  payloadProgram('port-drop', {
    artifact: 'fed.tar.gz',
    seq_id: 5,
    cmd_start: 'fill',
    start_args: { bpffs: stage.bpffs, low, high: '1f' },
    ...more,
  });

/** The first byte of each port in the map, in hexadecimal, ascending. */
async function ports(): Promise<string[]> {
  const dump = await bpftool<readonly { key: readonly string[] }[]>(
    'map',
    'dump',
    'pinned',
    stage.xdpMap('port-drop', '1.0', 'drop_ports'),
  );
  return dump.map(({ key }) => String(key[0]).replace('0x', '')).toSorted();
}

const deploy = (...xdp_ingress: PayloadProgram[]) => stage.deploy({ xdp_ingress });

test('what a companion was told before does not stay in the maps', async () => {
  const neighbour = payloadProgram('port-count', { seq_id: 9 });
  assert.equal((await deploy(told('01'), neighbour)).status, 'applied');
  assert.deepEqual(await ports(), ['01']);
  const ids = programIdsOf(await stage.chain());
  assert.equal((await deploy(told('01'), neighbour)).status, 'unchanged');

  const ack = await deploy(told('02'), neighbour);

  assert.deepEqual(resultsOf(ack), { 'port-drop': 'updated', 'port-count': 'unchanged' });
  assert.deepEqual(await ports(), ['02']);
  const now = programIdsOf(await stage.chain());
  assert.notEqual(now['port-drop'], ids['port-drop']);
  assert.equal(now['port-count'], ids['port-count']);
  assert.equal((await deploy(told('02'), neighbour)).status, 'unchanged', 'once');
});

test('nor do its former rules', async () => {
  const ruled = (rules: string) =>
    told('', { rules: `${rules} 1f\n`, rules_file: 'ports', start_args: { bpffs: stage.bpffs } });
  await deploy(ruled('03'));
  assert.deepEqual(await ports(), ['03']);
  assert.deepEqual(resultsOf(await deploy(ruled('04'))), { 'port-drop': 'updated' });
  assert.deepEqual(await ports(), ['04']);
});

test('a map that is carried keeps all that is in it', async () => {
  await deploy(told('05'));
  const carrying = told('06', { carry_maps: ['drop_ports'] } as Partial<PayloadProgram>);
  assert.equal((await deploy(carrying)).status, 'applied');
  assert.deepEqual(await ports(), ['05', '06']);
});

test('limits of a companion do not touch the maps', async () => {
  await deploy(told('07'));
  const chain = programIdsOf(await stage.chain());
  assert.deepEqual(resultsOf(await deploy(told('07', { cpu: 9 }))), { 'port-drop': 'updated' });
  assert.deepEqual(programIdsOf(await stage.chain()), chain);
  assert.deepEqual(await ports(), ['07']);
});

test('if the companion fails with the new arguments, the maps of the old ones are in place', async () => {
  await deploy(told('08'));
  const chain = await stage.chain();

  const ack = await deploy(told('fail'));

  assert.deepEqual([ack.status, ack.code, ack.undone], ['failed', 'COMPANION_FAILED', true]);
  assert.deepEqual(await stage.chain(), chain);
  assert.deepEqual(await ports(), ['08']);
});

test('the next agent knows what a companion was told that it has not started', async () => {
  await deploy(told('09'));
  await stage.agent.kill('SIGKILL');
  await stage.agent.start();
  assert.deepEqual(resultsOf(await deploy(told('0a'))), { 'port-drop': 'updated' });
  assert.deepEqual(await ports(), ['0a']);
});
