import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { processesWith } from '../../support/companions.js';
import { type PackageSpec, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject, PROJECT_ROOT } from '../../support/project.js';
import { until, untilGiven } from '../../support/until.js';
import { resultsOf } from '../support/chain.js';
import { numberIn, programIdsOf } from '../support/kernel.js';
import { PLATFORM, Stage } from '../support/stage.js';

/*
 * A package with a companion that does real work. native/companions/port_export.c reads the maps of its program and
 * exports them by UDP.
 */

const PORT = 8080;

const exporting = (version: string, program: PackageSpec['files'][string]): PackageSpec => ({
  name: 'port-count',
  version,
  platform: PLATFORM,
  artifact: 'port-export.tar.gz',
  files: {
    'port_count.bpf.o': builtObject('port_count'),
    port_export: program,
    set: { script: '#!/bin/sh\necho "set $*"\n' },
  },
});
const exporter = join(PROJECT_ROOT, 'native', 'build', 'port_export');

let stage: Stage;
let collector: Socket;
let exported: Map<string, number>;

before(async () => {
  collector = createSocket('udp4');
  collector.on('message', (line) => {
    const [, what, count] = /^(.*) (\d+)$/.exec(line.toString())!;
    exported.set(what!, Number(count));
  });
  exported = new Map();
  collector.bind(0, '127.0.0.1');
  await once(collector, 'listening');
  const packages = [
    exporting('1.0', exporter),
    exporting('2.0', exporter),
    exporting('3.0', { script: '#!/bin/sh\necho "it is broken" >&2\nexit 7\n' }),
  ];
  stage = await Stage.open({ host: 'companions', packages, env: { L3AF_RECONCILE_INTERVAL: '500ms' } });
});
after(async () => {
  await stage.close();
  collector.close();
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});

const counting = (overrides: Partial<PayloadProgram> = {}): PayloadProgram =>
  payloadProgram('port-count', {
    artifact: 'port-export.tar.gz',
    seq_id: 10,
    cmd_start: 'port_export',
    user_program_daemon: true,
    start_args: startArgs(),
    ...overrides,
  });

const startArgs = (interval = '50') => ({
  bpffs: stage.bpffs,
  collector: `127.0.0.1:${(collector.address() as AddressInfo).port}`,
  'interval-ms': interval,
});

const deploy = (...xdp_ingress: PayloadProgram[]) => stage.deploy({ xdp_ingress });

/** Process id of the only running companion. */
function companion(): Promise<number> {
  return untilGiven('one companion runs', () => {
    const [pid, ...others] = processesWith(stage.stateDir).filter((id) => id !== stage.agent.pid);
    return others.length === 0 ? pid : undefined;
  });
}

async function assertExports(version: string, received: number): Promise<void> {
  const counted = () => numberIn(stage.xdpMap('port-count', version, 'packet_count'));
  await until(`${received} packets are exported`, async () => exported.get(`port ${PORT}`) === received);
  await until('all packets are exported', async () => exported.get('packets') === (await counted()));
}

test('a companion is started with its program and exports what the kernel counts', async () => {
  const answer = await deploy(counting());
  assert.equal(answer.status, 'applied');
  await stage.receive(300, PORT);
  await assertExports('1.0', 300);
});

test('with other start arguments the program begins anew: new maps, and a companion that is told the new ones', async () => {
  const [pid, chain] = [await companion(), await stage.chain()];
  const answer = await deploy(counting({ start_args: startArgs('20') }));
  assert.deepEqual(resultsOf(answer), { 'port-count': 'updated' });
  assert.notDeepEqual(programIdsOf(await stage.chain()), programIdsOf(chain));
  assert.notEqual(await companion(), pid);
  exported.clear();
  await stage.receive(50, PORT);
  await assertExports('1.0', 50);
});

test('update arguments run the update command while the companion goes on', async () => {
  const [pid, chain] = [await companion(), await stage.chain()];
  const update = { start_args: startArgs('20'), cmd_update: 'set', update_args: { rate: '9' } };
  const answer = await deploy(counting(update));
  assert.deepEqual(resultsOf(answer), { 'port-count': 'updated' });
  const said = stage.agent
    .logs()
    .filter(({ msg, line }) => msg === 'companion output' && String(line).startsWith('set'));
  assert.deepEqual(
    said.map(({ line }) => line),
    [`set --iface=${stage.bed.iface} --direction=xdpingress --cmd=update --version=1_0 --rate=9`],
  );
  assert.equal(await companion(), pid);
  assert.deepEqual(programIdsOf(await stage.chain()), programIdsOf(chain));
  assert.equal((await deploy(counting(update))).status, 'unchanged');
});

test('a companion goes on while the chain around it changes', async () => {
  const pid = await companion();
  await deploy(payloadProgram('port-drop', { seq_id: 5 }), counting({ start_args: startArgs('20') }));
  await deploy(counting({ start_args: startArgs('20') }), payloadProgram('port-drop', { seq_id: 20 }));
  assert.equal(await companion(), pid);
  await stage.receive(50, PORT);
  await assertExports('1.0', 100);
});

test('a kill of the agent does not touch the companion, and the next agent adopts it', async () => {
  const pid = await companion();
  await stage.agent.kill('SIGKILL');
  await stage.receive(100, PORT);
  await assertExports('1.0', 200);
  await stage.agent.start();
  assert.equal(await companion(), pid);
  assert.ok(stage.agent.logs().some(({ msg, pid: adopted }) => msg === 'adopted companion' && adopted === pid));

  const answer = await deploy(counting({ start_args: startArgs('20') }));
  assert.deepEqual(resultsOf(answer), { 'port-count': 'unchanged', 'port-drop': 'stopped' });
  assert.equal(await companion(), pid);
});

test('when the companion of a new version does not start, the old version and its companion stay in place', async () => {
  const chain = await stage.chain();
  const answer = await deploy(counting({ version: '3.0', start_args: startArgs('20') }));
  assert.deepEqual([answer.status, answer.code, answer.undone], ['failed', 'COMPANION_FAILED', true]);
  assert.equal(answer.errors[0]?.path, '0.bpf_programs.xdp_ingress.0.cmd_start');
  assert.match(answer.message ?? '', /port_export .*exit status 7/);
  assert.match(answer.errors[0]?.detail ?? '', /it is broken/);
  assert.deepEqual(await stage.chain(), chain);
  await companion();
  await stage.receive(100, PORT);
  await assertExports('1.0', 300);
});

test('a new version starts its own companion, and the old companion is stopped', async () => {
  exported.clear();
  const pid = await companion();
  const answer = await deploy(counting({ version: '2.0' }));
  assert.deepEqual(resultsOf(answer), { 'port-count': 'updated' });
  assert.notEqual(await companion(), pid);
  await stage.receive(40, PORT);
  await assertExports('2.0', 40);
});

test('a companion that has died is started again, and counted', async () => {
  const pid = await companion();
  process.kill(pid, 'SIGKILL');
  await until('another one runs', async () => (await companion()) !== pid);
  await untilGiven('the snapshot counts it', async () => {
    const { IngressXDPBpfs } = await stage.fleet.request(stage.host, 'state', {});
    return IngressXDPBpfs[stage.bed.iface]?.find(({ RestartCount }) => RestartCount === 1);
  });
});

test('a program that is disabled or deleted has no companion', async () => {
  await deploy(counting({ version: '2.0', admin_status: 'disabled' }));
  assert.deepEqual(processesWith(stage.stateDir), []);
  await deploy(counting({ version: '2.0' }));
  await companion();
  await stage.delete({ xdp_ingress: ['port-count'] });
  assert.deepEqual(processesWith(stage.stateDir), []);
});

test('an agent that stops leaves its companions running, except with --detach-on-exit', async () => {
  await deploy(counting());
  const pid = await companion();
  await stage.agent.stop();
  assert.equal(await companion(), pid);
  const taking = stage.successor(['--detach-on-exit']);
  await taking.start();
  assert.equal((await taking.stop()).code, 0);
  assert.deepEqual(processesWith(stage.stateDir), []);
  await stage.agent.start();
  assert.notEqual(await companion(), pid);
});
