import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { makeGroup, type TestGroup } from '../../support/cgroup.js';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { run } from '../../support/tool.js';
import { numberIn } from '../support/kernel.js';
import { eventually, Stage } from '../support/stage.js';

/*
 * Chains of control groups. They see what the sockets of a group send, and do not see what other sockets send.
 */

const PASSED = 5000;
const DROPPED = 4000;

let stage: Stage;
let group: TestGroup;
before(async () => {
  stage = await Stage.open({ host: 'groups', env: { L3AF_RECONCILE_INTERVAL: '200ms' } });
  group = makeGroup();
});
after(async () => {
  await stage.close();
  group.close();
});

const COUNT = payloadProgram('skb-count', { seq_id: 1 });
const DROP = payloadProgram('skb-drop', {
  seq_id: 2,
  map_args: [{ name: 'skb_drop_ports', args: [{ key: DROPPED, value: 1 }] }],
});

const at = (lists: object, path = group.path) => [{ host_name: stage.host, iface: path, bpf_programs: lists }];
const deploy = (...programs: PayloadProgram[]) => stage.send('deploy', at({ cgroup_skb_egress: programs }));
const counter = (program: string, map: string, version = '1.0') =>
  numberIn(
    join(stage.bpffs, 'cgroup/egress', group.path.replaceAll('/', '%2F'), program, version.replace('.', '_'), map),
  );

/** Sends UDP packets from a process in the group to the far end of the stage's interface. */
async function sendFromGroup(count: number, port: number): Promise<void> {
  const script = `echo $$ >"$1/cgroup.procs"; for _ in $(seq ${count}); do echo >/dev/udp/${stage.bed.peerAddress}/${port}; done`;
  // When a packet is dropped, its sender gets an error (EPERM).
  await run('bash', ['-c', `${script} 2>/dev/null; true`, 'sender', group.dir]);
}

async function attachment() {
  const { hooks } = await stage.fleet.request(stage.host, 'status', {});
  return hooks.find(({ iface, direction }) => iface === group.path && direction === 'cgroup_skb_egress');
}

beforeEach(async () => {
  await stage.send('deploy', []);
});

test('what the sockets of a group send passes its chain in order, and what other sockets send does not', async () => {
  const answer = await deploy(COUNT, DROP);
  assert.equal(answer.status, 'applied', answer.message);
  assert.deepEqual(
    answer.programs.map(({ iface, direction, name }) => [iface, direction, name]),
    ['skb-count', 'skb-drop'].map((name) => [group.path, 'cgroup_skb_egress', name]),
  );

  await stage.transmit(20, DROPPED);
  await sendFromGroup(10, PASSED);
  await sendFromGroup(5, DROPPED);

  assert.equal(await counter('skb-count', 'skb_packets'), 15);
  assert.equal(await counter('skb-drop', 'skb_dropped'), 5);
  const { kind, attached, running } = (await attachment())!;
  assert.deepEqual({ kind, attached, running }, { kind: 'cgroup', attached: true, running: 2 });
});

test('a new version takes over, and a killed agent adopts what runs', async () => {
  await deploy(COUNT, DROP);
  assert.equal((await deploy({ ...COUNT, version: '2.0' }, DROP)).status, 'applied');
  await sendFromGroup(3, PASSED);
  assert.equal(await counter('skb-count', 'skb_packets', '2.0'), 3);
  const state = await stage.kernel();

  await stage.agent.kill('SIGKILL');
  await stage.agent.start();

  assert.deepEqual(await stage.kernel(), state);
  assert.equal((await deploy({ ...COUNT, version: '2.0' }, DROP)).status, 'unchanged');
});

test('programs without slots run one after the other where the kernel keeps an order', async () => {
  const [first, second] = [
    { ...COUNT, map_name: '' },
    { ...DROP, map_name: '' },
  ];
  const { stdout } = await run('uname', ['-r']);
  const [major = 0, minor = 0] = stdout.split('.').map(Number);
  const answer = await deploy(first, second);
  if (major < 6 || (major === 6 && minor < 17)) {
    assert.match(answer.message ?? '', /in the order of their attachment \(until Linux 6\.17\)/);
    return;
  }
  assert.equal(answer.status, 'applied', answer.message);
  await sendFromGroup(4, DROPPED);
  assert.deepEqual([await counter('skb-count', 'skb_packets'), await counter('skb-drop', 'skb_dropped')], [4, 4]);
});

test('a group that is deleted and created again gets its chain back', async () => {
  await deploy(COUNT);
  group.close();
  await eventually(attachment, (hook) => hook?.attached === false, 'the link should be dead');

  // while it is away, other commands go on, and say that its program waits
  const other = await stage.add({ xdp_ingress: [payloadProgram('port-count')] });
  assert.equal(other.status, 'applied', other.message);
  const waiting = other.programs.find(({ name }) => name === 'skb-count');
  assert.match(
    `${waiting?.result} ${waiting?.message}`,
    /^failed This host has no control group .* starts when it appears/,
  );

  group = makeGroup(group.path.slice(1));

  await eventually(attachment, (hook) => hook?.attached === true, 'the chain should be attached again');
  await sendFromGroup(2, PASSED);
  assert.equal(await counter('skb-count', 'skb_packets'), 2);
});

test('refused by name: a group that does not exist, and a list that is not for groups', async () => {
  const absent = await stage.send('deploy', at({ cgroup_skb_egress: [COUNT] }, '/l3af-none'));
  assert.deepEqual([absent.status, absent.code], ['failed', 'CGROUP_NOT_FOUND']);
  assert.match(absent.message ?? '', /\/l3af-none/);

  const mixed = await stage.send('deploy', [
    { host_name: stage.host, iface: stage.bed.iface, bpf_programs: { cgroup_skb_ingress: [COUNT] } },
    { host_name: stage.host, iface: group.path, bpf_programs: { xdp_ingress: [payloadProgram('port-count')] } },
  ]);
  assert.deepEqual(
    mixed.errors.map(({ path }) => path),
    ['0.bpf_programs.cgroup_skb_ingress', '1.bpf_programs.xdp_ingress'],
  );
});

test('netkit is refused with a reason if the kernel has no netkit, or the interface is no netkit device', async () => {
  const program = payloadProgram('tc-count');
  const answer = await stage.send('deploy', at({ netkit_primary: [program] }, stage.bed.iface));
  assert.deepEqual([answer.status, answer.code], ['failed', 'ATTACH_FAILED']);
  assert.match(answer.message ?? '', /CONFIG_NETKIT|is no netkit device/);
});
