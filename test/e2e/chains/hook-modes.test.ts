import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { PrivateBpffs } from '../../support/bpftool.js';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { repeats } from '../../support/repeats.js';
import { run } from '../../support/tool.js';
import { marks } from '../support/chain.js';
import { numberIn } from '../support/kernel.js';
import { DISCARD_PORT, eventually, Stage } from '../support/stage.js';

/*
 * XDP in generic mode and TC by filter: what the agent does when drivers or kernels support nothing better, or when it
 * is configured so.
 */

const UPDATES = repeats({ usual: 4, full: 10 });
/** Packets per second. */
const RATE = 3_000;

let stage: Stage;
const foreign = new PrivateBpffs();
before(async () => {
  const env = { L3AF_XDP_MODE: 'generic', L3AF_TC_MODE: 'clsact', L3AF_RECONCILE_INTERVAL: '200ms' };
  stage = await Stage.open({ host: 'modes', env });
  await foreign.mount();
});
after(async () => {
  await stage.close();
  await foreign.unmount();
});
afterEach(() => stage.deploy({}));

test('hooks, programs and the snapshot report the mode in which XDP really runs', async () => {
  await stage.deploy({ xdp_ingress: marks([1, 2]), tc_ingress: marks([1], 'tc') });
  const { fleet, host, bed } = stage;

  const { hooks } = await fleet.status(host);
  assert.deepEqual(
    hooks.map(({ direction, kind, mode }) => [direction, kind, mode]),
    [
      ['xdpingress', 'xdp', 'generic'],
      ['ingress', 'clsact', undefined],
    ],
  );
  const { programs } = await fleet.programs(host);
  assert.deepEqual(
    programs.map(({ name, mode }) => [name, mode]),
    [
      ['xdp-mark-1', 'generic'],
      ['xdp-mark-2', 'generic'],
      ['tc-mark-1', undefined],
    ],
  );
  const { IngressXDPBpfs: xdp, IngressTCBpfs: tc } = await fleet.request(host, 'state', {});
  assert.deepEqual(
    [xdp, tc].map((chains) => chains[bed.iface]?.map(({ XdpMode: mode }) => mode)),
    [
      ['generic', 'generic', 'generic'],
      [undefined, undefined],
    ],
  );
  const { stdout } = await run('ip', ['-json', 'link', 'show', 'dev', bed.iface]);
  assert.equal((JSON.parse(stdout) as [{ xdp: { mode: number } }])[0].xdp.mode, 2); // XDP_ATTACHED_SKB
});

const dev = () => ['dev', stage.bed.iface];
const tc = async (...args: string[]) => (await run('tc', args)).stdout;

/** The setups where TC programs are filters. Each creates its qdiscs and says where the filters of a direction are. */
const SETUPS = {
  'a clsact qdisc': {
    make: () => tc('qdisc', 'add', ...dev(), 'clsact'),
    clear: () => tc('qdisc', 'delete', ...dev(), 'clsact'),
    egress: ['egress'],
  },
  'an htb and an ingress qdisc': {
    async make() {
      await tc('qdisc', 'add', ...dev(), 'ingress');
      await tc('qdisc', 'add', ...dev(), 'root', 'handle', '1:', 'htb', 'default', '10');
      await tc('class', 'add', ...dev(), 'parent', '1:', 'classid', '1:10', 'htb', 'rate', '1gbit');
    },
    async clear() {
      await tc('qdisc', 'delete', ...dev(), 'ingress');
      await tc('qdisc', 'delete', ...dev(), 'root');
    },
    egress: ['parent', '1:'],
  },
} as const;

for (const [name, setup] of Object.entries(SETUPS)) {
  test(`foreign filter survives our attach, swap and detach, and so does the qdisc: ${name}`, async (t) => {
    // given foreign filters before ours, in both directions
    await setup.make();
    t.after(setup.clear);
    const theirs = await foreign.load(builtObject('tc_mark'), 'classifier');
    t.after(() => theirs.unload());
    const program = ['bpf', 'direct-action', 'object-pinned', theirs.programPin('tc_mark')];
    for (const where of [['ingress'], setup.egress])
      await tc('filter', 'add', ...dev(), ...where, 'protocol', 'all', 'pref', '1', ...program);
    const look = () =>
      Promise.all([['ingress'], setup.egress].map((where) => tc('filter', 'show', ...dev(), ...where)));
    const qdiscs = () => tc('qdisc', 'show', ...dev());
    const [filtersBefore, qdiscsBefore] = [await look(), await qdiscs()];

    // when chains are attached, and their programs are replaced under traffic
    const chain = (version: string): { tc_ingress: PayloadProgram[]; tc_egress: PayloadProgram[] } => {
      const one = (number: 1 | 2) => ({
        ...payloadProgram(`tc-mark-${number}`, { version }),
        ...{ carry_maps: ['mark_packets'] },
      });
      return { tc_ingress: [one(1)], tc_egress: [one(2)] };
    };
    const attached = await stage.deploy(chain('1.0'));
    assert.equal(attached.status, 'applied', attached.message);
    const lostBefore = await stage.bed.lost();
    const [incoming, outgoing] = [
      await stage.startTraffic(DISCARD_PORT, RATE),
      await stage.startTraffic(DISCARD_PORT, RATE, 'egress'),
    ];
    for (let update = 1; update <= UPDATES; update++) {
      const { status, message } = await stage.deploy(chain(update % 2 === 1 ? '2.0' : '1.0'));
      assert.equal(status, 'applied', message);
    }
    const [received, sent] = [await incoming.stop(), await outgoing.stop()];

    // then both our programs and the foreign ones have counted each packet once
    const expected = [received - ((await stage.bed.lost()) - lostBefore), sent];
    const counted = () =>
      Promise.all([1, 2].map((number) => numberIn(stage.tcMap(`tc-mark-${number}`, '1.0', 'mark_packets'))));
    await eventually(counted, (counts) => counts.every((count, at) => count! >= expected[at]!), `${expected} counted`);
    assert.deepEqual(await counted(), expected);
    assert.equal(await theirs.counter('mark_packets'), expected[0]! + expected[1]!);

    // and a new agent finds what a killed one left
    await stage.agent.kill('SIGKILL');
    await stage.agent.start();
    assert.equal((await stage.deploy(chain('1.0'))).status, 'unchanged');

    // and when our programs are removed, the foreign filters and the qdiscs are as before
    await stage.deploy({});
    assert.deepEqual(await look(), filtersBefore);
    assert.equal(await qdiscs(), qdiscsBefore);
  });
}

test('with chaining off, a program in a filter is replaced in place, without missing a packet', async () => {
  await stage.restart({ L3AF_CHAINING: 'false' });
  const deploy = (version: string) => {
    const program = { ...payloadProgram('tc-mark-1', { version }), ...{ carry_maps: ['mark_packets'] } };
    return stage.deploy({ tc_ingress: [program] });
  };
  assert.equal((await deploy('1.0')).status, 'applied');
  assert.match(await tc('filter', 'show', ...dev(), 'ingress'), /tc_mark/);
  const lostBefore = await stage.bed.lost();
  const traffic = await stage.startTraffic(DISCARD_PORT, RATE);

  for (let update = 1; update <= UPDATES; update++) {
    const { status, message } = await deploy(update % 2 === 1 ? '2.0' : '1.0');
    assert.equal(status, 'applied', message);
  }

  const arrived = (await traffic.stop()) - ((await stage.bed.lost()) - lostBefore);
  const counted = () => numberIn(stage.tcMap('tc-mark-1', '1.0', 'mark_packets'));
  await eventually(counted, (count) => count! >= arrived, `${arrived} packets should be counted`);
  assert.equal(await counted(), arrived);

  // and with chaining on again, a root is put before it
  await stage.restart();
  assert.match(await tc('filter', 'show', ...dev(), 'ingress'), /tc_ingress_root/);
  assert.equal(await counted(), arrived);
});

test('a filter and a qdisc that somebody has deleted are restored', async () => {
  await stage.deploy({ tc_ingress: [payloadProgram('tc-mark-1')] });
  const counted = () => numberIn(stage.tcMap('tc-mark-1', '1.0', 'mark_packets'));
  const filters = () => tc('filter', 'show', ...dev(), 'ingress');
  assert.match(await filters(), /tc_ingress_root/);

  for (const gone of [
    ['filter', 'delete', ...dev(), 'ingress'],
    ['qdisc', 'delete', ...dev(), 'clsact'],
  ]) {
    await tc(...gone);
    await eventually(
      filters,
      (shown) => shown.includes('tc_ingress_root'),
      `the filter should be back after ${gone[0]}`,
    );
  }

  await stage.receive(10, DISCARD_PORT);
  await eventually(counted, (count) => count === 10, 'the packets should be counted');
  await stage.deploy({});
  assert.equal(await tc('qdisc', 'show', ...dev(), 'clsact'), '');
});
