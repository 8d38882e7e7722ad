import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { processesWith } from '../../support/companions.js';
import { existing } from '../../support/kernel-ids.js';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { selfLoaded, selfLoadingPackage } from '../../support/self-loading.js';
import { until, untilGiven } from '../../support/until.js';
import { mapOf, resultsOf } from '../support/chain.js';
import { numberIn } from '../support/kernel.js';
import { PLATFORM, PROBE_PORT, Stage } from '../support/stage.js';

/*
 * Programs without an object file. Their companion, native/companions/program_loader.c, loads them with libbpf and puts
 * them into the slot that the agent names.
 */

const NAME = 'xdp-mark-2';

let stage: Stage;

before(async () => {
  const packages = ['1.0', '2.0', '3.0'].map((version) =>
    selfLoadingPackage(
      'xdp',
      NAME,
      { version, platform: PLATFORM },
      {
        idle: { script: '#!/bin/sh\necho "nothing is loaded here"\nexec sleep 1000\n' },
        refuse: { script: '#!/bin/sh\necho "no such thing" >&2\nexit 3\n' },
      },
    ),
  );
  const both = ['1.0', '2.0'].map((version) => selfLoadingPackage('tc', 'tc-mark-2', { version, platform: PLATFORM }));
  stage = await Stage.open({
    host: 'self-loading',
    packages: [...packages, ...both],
    env: { L3AF_RECONCILE_INTERVAL: '500ms', L3AF_COMPANION_READY_TIME: '3s' },
  });
});
after(async () => {
  await stage.close();
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});

const mark = (id: 1 | 2 | 3 | 4, seq_id = 10 * id) => payloadProgram(`xdp-mark-${id}`, { seq_id });
const loader = (overrides: Partial<PayloadProgram> = {}, args: Readonly<Record<string, string>> = {}) => ({
  ...selfLoaded(payloadProgram(NAME, { seq_id: 20 }), args),
  ...overrides,
});
const deploy = (...xdp_ingress: PayloadProgram[]) => stage.deploy({ xdp_ingress });
const namesOf = async () => (await stage.chain())!.members.map(({ name }) => name);

/** Process ids of the running companions. */
const companions = () => processesWith(stage.stateDir).filter((id) => id !== stage.agent.pid);
const companion = () =>
  untilGiven('one companion runs', () => {
    const [pid, ...others] = companions();
    return others.length === 0 ? pid : undefined;
  });

const seen = async (name: string, version = '1.0') => (await numberIn(stage.xdpMap(name, version, 'mark_seen'))) ?? 0;

test('without object_file, a companion loads its program itself, and the program has its place in the chain', async () => {
  const answer = await deploy(mark(1), loader(), mark(3));
  assert.equal(answer.status, 'applied', JSON.stringify(answer));
  assert.deepEqual(await namesOf(), ['xdp-root', 'xdp-mark-1', NAME, 'xdp-mark-3']);
  await stage.receive(200, PROBE_PORT);
  await until('all three have seen the packets', async () => {
    const counts = await Promise.all(['xdp-mark-1', NAME, 'xdp-mark-3'].map((name) => seen(name)));
    return counts.every((count) => count === 200);
  });
  // The map_args were written before the first packet, so each marker knows its number.
  assert.equal(await numberIn(stage.xdpMap(NAME, '1.0', 'mark_id')), 2);
  assert.equal(await numberIn(stage.xdpMap('xdp-mark-3', '1.0', 'mark_order')), 3);
  assert.equal((await deploy(mark(1), loader(), mark(3))).status, 'unchanged');
});

const programId = async (name = NAME) => (await stage.chain())!.members.find((one) => one.name === name)?.programId;

test('a companion and its program keep running while the chain around them changes', async () => {
  const before = [await companion(), await programId()];
  const answer = await deploy(mark(1), loader(), mark(4, 30));
  assert.deepEqual(resultsOf(answer), {
    'xdp-mark-1': 'unchanged',
    [NAME]: 'unchanged',
    'xdp-mark-4': 'started',
    'xdp-mark-3': 'stopped',
  });
  assert.deepEqual([await companion(), await programId()], before);
});

test('map_args are written to the maps of a self-loaded program like those of any program', async () => {
  const before = [await companion(), await programId()];
  const answer = await deploy(mark(1), loader({ map_args: [{ name: 'mark_id', args: [{ key: 0, value: 7 }] }] }));
  assert.equal(resultsOf(answer)[NAME], 'updated');
  assert.equal(await numberIn(stage.xdpMap(NAME, '1.0', 'mark_id')), 7);
  assert.deepEqual([await companion(), await programId()], before);
});

test('with other start arguments, another companion loads the program again, and the old one is removed with its companion', async () => {
  const [pid, old] = [await companion(), await programId()];
  const answer = await deploy(mark(1), loader({}, { kind: 'xdp' }), mark(3));
  assert.equal(resultsOf(answer)[NAME], 'updated');
  assert.notEqual(await companion(), pid);
  assert.notEqual(await programId(), old);
  assert.deepEqual(existing('prog', new Set([old!])), []);
  await stage.receive(100, PROBE_PORT);
  await until('the new one has seen the packets', async () => (await seen(NAME)) === 100);
});

test('a new version is loaded beside the old one, and takes over the tables that carry_maps names', async () => {
  const before = await seen(NAME);
  const carrying = { version: '2.0', carry_maps: ['mark_seen'] } as Partial<PayloadProgram>;
  const answer = await deploy(mark(1), loader(carrying), mark(3));
  assert.equal(resultsOf(answer)[NAME], 'updated', JSON.stringify(answer));
  assert.deepEqual(answer.errors, [], 'what is carried over is not left over');
  await stage.receive(50, PROBE_PORT);
  await until('it counts on', async () => (await seen(NAME, '2.0')) === before + 50);
  await deploy(mark(1), loader(), mark(3));
});

test('when a companion crashes, its program keeps running until a newly loaded one replaces it in the chain', async () => {
  const [pid, old, before] = [await companion(), await programId(), await seen('xdp-mark-3')];
  const traffic = await stage.startTraffic(PROBE_PORT, 4_000);
  process.kill(pid, 'SIGKILL');
  await until('another program is in the chain', async () => (await programId()) !== old);
  assert.notEqual(await companion(), pid);
  const sent = await traffic.stop();
  await until('no packet has missed the program behind it', async () => (await seen('xdp-mark-3')) === before + sent);
  const { data } = await untilGiven(
    'an event tells of it',
    () => stage.agent.logs().find(({ msg }) => msg === 'started a companion again') as { data?: unknown } | undefined,
  );
  assert.equal(data, undefined);
});

test('a companion that puts another program into its slot is started again, so that the program that it loads runs', async () => {
  const [pid, old] = [await companion(), await programId()];
  process.kill(pid, 'SIGHUP');
  await until('another program is in the chain', async () => (await programId()) !== old);
  assert.notEqual(await companion(), pid);
  await until('an event tells of it', async () =>
    stage.agent.logs().some(({ found }) => /has put another program into its slot/.test(JSON.stringify(found))),
  );
});

test('a kill of the agent does not affect the companion, and the next agent adopts it', async () => {
  const before = [await companion(), await programId()];
  await stage.agent.kill('SIGKILL');
  await stage.receive(20, PROBE_PORT);
  await stage.agent.start();
  assert.deepEqual([await companion(), await programId()], before);
  assert.equal((await deploy(mark(1), loader(), mark(3))).status, 'unchanged');
});

test('a self-loaded program changes places with its neighbours', async () => {
  await deploy(mark(1), loader(), mark(3));
  const answer = await deploy(loader({ seq_id: 5 }), mark(1), mark(3));
  assert.equal(answer.status, 'applied');
  assert.deepEqual(await namesOf(), ['xdp-root', NAME, 'xdp-mark-1', 'xdp-mark-3']);
  await companion();
  await stage.receive(20, PROBE_PORT);
  await until('it is the first', async () => (await numberIn(stage.xdpMap(NAME, '1.0', 'mark_order'))) === 1);
});

test('a plan says what would be done and starts nothing', async () => {
  const before = [await companion(), await programId()];
  const payload = stage.payload({ xdp_ingress: [mark(1), loader({ version: '3.0' })] });
  const { prepare } = await stage.fleet.request(stage.host, 'plan', { verb: 'deploy', payload });
  const said = prepare.map(({ text }) => text).join('\n');
  assert.match(said, /start the companion of xdp-mark-2 3\.0 at .*, which loads the program/);
  assert.deepEqual([await companion(), await programId()], before);
});

/** A program that can also be loaded for another hook. */
const OTHER_KIND = { object: 'plain.o', function: 'xdp_root', kind: 'tc' };

const FAILURES: readonly {
  what: string;
  fields: Partial<PayloadProgram>;
  args?: Record<string, string>;
  says: RegExp;
}[] = [
  { what: 'does not load anything', fields: { cmd_start: 'idle' }, says: /idle has not put its program into the slot/ },
  {
    what: 'ends at once',
    fields: { cmd_start: 'refuse' },
    says: /refuse is a daemon but ended at once: exit status 3/,
  },
  { what: 'cannot load its program', fields: {}, args: { function: 'nothing' }, says: /ended at once: exit status 1/ },
  {
    what: 'loads a program for another hook',
    fields: {},
    args: OTHER_KIND,
    says: /ended at once: exit status 1\. .* takes only XDP programs with the expected attach type BPF_XDP/,
  },
  {
    what: 'does not use the slot that map_name names',
    fields: { map_name: 'other_next' },
    says: /uses no map other_next.*it uses .*mark_seen.*remove its map_name/,
  },
  {
    what: 'has no map that map_args names',
    fields: { map_args: [{ name: 'limits', args: [{ key: 0, value: 1 }] }] },
    says: /uses no map limits/,
  },
];

for (const { what, fields, args, says } of FAILURES) {
  test(`when the companion of a new version ${what}, the old version and its companion stay in place`, async () => {
    await deploy(loader({ seq_id: 5 }), mark(1), mark(3));
    const [before, names] = [[await companion(), await programId()], await namesOf()];
    const answer = await deploy(loader({ seq_id: 5, version: '3.0', ...fields }, args), mark(1), mark(3));
    assert.deepEqual([answer.status, answer.undone], ['failed', true]);
    assert.match(answer.message ?? '', says);
    assert.deepEqual([await companion(), await programId()], before);
    assert.deepEqual(await namesOf(), names);
    assert.notEqual(await numberIn(stage.xdpMap(NAME, '1.0', 'mark_seen')), undefined);
  });
}

test('the program of a companion that runs once and ends stays in the chain', async () => {
  const once = loader({ user_program_daemon: false, seq_id: 5 }, { once: '' });
  const answer = await deploy(once, mark(1));
  assert.equal(answer.status, 'applied', answer.message);
  assert.deepEqual(companions(), []);
  await stage.receive(20, PROBE_PORT);
  await until('it counts', async () => (await seen(NAME)) === 20);
  assert.equal((await deploy(once, mark(1))).status, 'unchanged');
});

test('a self-loaded program is removed with its companion, and the rest of the chain stays', async () => {
  await deploy(mark(1), loader(), mark(3));
  const answer = await stage.delete({ xdp_ingress: [NAME] });
  assert.deepEqual(resultsOf(answer)[NAME], 'stopped', JSON.stringify(answer));
  assert.deepEqual(companions(), []);
  assert.deepEqual(await namesOf(), ['xdp-root', 'xdp-mark-1', 'xdp-mark-3']);
});

test('a program at both TC hooks, which share public names, has a companion and maps for each', async () => {
  const program = (changes: Partial<PayloadProgram> & { carry_maps?: string[] } = {}) => ({
    ...selfLoaded(payloadProgram('tc-mark-2')),
    ...changes,
  });
  const seenAt = async (direction: 'ingress' | 'egress') => {
    const member = (await stage.chain(direction))!.members.at(-1)!;
    return (await numberIn(mapOf(stage, member, 'mark_seen'))) ?? 0;
  };
  const assertApplied = async (answer: ReturnType<typeof deploy>) => {
    const { status, message, errors } = await answer;
    assert.deepEqual([status, errors], ['applied', []], message);
    assert.equal(companions().length, 2);
  };

  await assertApplied(stage.deploy({ tc_ingress: [program()], tc_egress: [program()] }));
  await stage.receive(30, PROBE_PORT);
  await stage.transmit(20, PROBE_PORT);
  await until('each counts its own', async () => (await seenAt('ingress')) === 30 && (await seenAt('egress')) === 20);

  const carrying = program({ version: '2.0', carry_maps: ['mark_seen'] });
  await assertApplied(stage.deploy({ tc_ingress: [carrying], tc_egress: [carrying] }));
  await stage.receive(1, PROBE_PORT);
  await until(
    'each has its own tables',
    async () => (await seenAt('ingress')) === 31 && (await seenAt('egress')) === 20,
  );

  await stage.delete({ tc_egress: ['tc-mark-2'] });
  await assertApplied(stage.add({ tc_egress: [program({ version: '2.0' })] }));
  await stage.receive(1, PROBE_PORT);
  await until('the other side goes on', async () => (await seenAt('ingress')) === 32 && (await seenAt('egress')) === 0);
  assert.equal((await numberIn(stage.tcMap('tc-mark-2', '2.0', 'mark_seen'))) ?? 0, 32);
});
