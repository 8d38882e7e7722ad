import assert from 'node:assert/strict';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { createTestbed } from '../../support/testbed.js';
import { run } from '../../support/tool.js';
import { assertChain, marks, resultsOf } from '../support/chain.js';
import { attachedXdp, namesOf, programIdsOf } from '../support/kernel.js';
import { eventually, Stage } from '../support/stage.js';

/*
 * What l3afd, the predecessor, did wrong in keeping the desired state. Each test names one defect and shows that it is
 * not present here.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'defects-state', env: { L3AF_RECONCILE_INTERVAL: '200ms' } });
});
after(() => stage.close());
beforeEach(async () => {
  await stage.deploy({});
});

test('l3afd defect 11: programs that are absent from a deploy are never removed', async (t) => {
  // given chains at two hooks of one interface, and at another interface
  const other = await createTestbed();
  t.after(() => other.close());
  const payload = stage.payload({ xdp_ingress: marks([1, 2]), tc_ingress: marks([1], 'tc') });
  await stage.send('deploy', [...payload, ...stage.payload({ xdp_ingress: marks([2]) }, other.iface)]);
  assert.deepEqual(namesOf(await stage.chain('xdpingress', other.iface)), ['xdp-mark-2@1.0']);
  assert.deepEqual(namesOf(await stage.chain('ingress')), ['tc-mark-1@1.0']);
  const { 'xdp-mark-2': _gone, ...ids } = programIdsOf(await stage.chain());

  // when a deploy names only one of the programs
  const ack = await stage.deploy({ xdp_ingress: marks([1]) });

  // then the others are gone, at its hook, at the other hook and at the other interface, and it was not touched
  assert.equal(ack.status, 'applied');
  const told = ack.programs.map(({ iface, direction, name, result }) => [iface, direction, name, result].join(' '));
  assert.deepEqual(
    told.toSorted(),
    [
      `${stage.bed.iface} xdpingress xdp-mark-1 unchanged`,
      `${stage.bed.iface} xdpingress xdp-mark-2 stopped`,
      `${stage.bed.iface} ingress tc-mark-1 stopped`,
      `${other.iface} xdpingress xdp-mark-2 stopped`,
    ].toSorted(),
  );
  assert.deepEqual(programIdsOf(await assertChain(stage, ['xdp-mark-1@1.0'])), ids);
  assert.equal(await stage.chain('ingress'), undefined);
  assert.equal(await stage.chain('xdpingress', other.iface), undefined);
  assert.equal(await attachedXdp(other.iface), undefined);
  const state = await stage.kernel();
  assert.deepEqual(
    state.entries.filter((entry) => entry.includes(other.iface)),
    [],
  );
  assert.deepEqual(await stage.leaked(state), []);
});

test('l3afd defect 12: an add on one interface forgets the others', async (t) => {
  // given a chain at one interface
  const other = await createTestbed();
  t.after(() => other.close());
  await stage.deploy({ xdp_ingress: marks([1, 2]) });
  const ids = programIdsOf(await stage.chain());

  // when a program is added at the other one, and the agent is killed and started again
  const added = await stage.send('add', stage.payload({ xdp_ingress: marks([3]) }, other.iface));
  assert.equal(added.status, 'applied');
  await stage.agent.kill('SIGKILL');
  await stage.agent.start();

  // then both chains exist, and a delta for the first interface builds on its chain
  assert.deepEqual(programIdsOf(await stage.chain()), ids);
  assert.deepEqual(namesOf(await stage.chain('xdpingress', other.iface)), ['xdp-mark-3@1.0']);
  const third = payloadProgram('xdp-mark-4', { seq_id: 30 });
  assert.deepEqual(resultsOf(await stage.add({ xdp_ingress: [third] })), {
    'xdp-mark-1': 'unchanged',
    'xdp-mark-2': 'unchanged',
    'xdp-mark-3': 'unchanged',
    'xdp-mark-4': 'started',
  });
  await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-4@1.0']);
  await stage.send('deploy', []);
});

test('l3afd defect 13: what runs is saved as what is desired, so that one failure at boot erases the rest', async () => {
  // given chains at two hooks that are gone, as after a reboot, and one program whose package cannot be found anywhere
  await stage.deploy({ xdp_ingress: marks([1, 2]), tc_ingress: marks([1], 'tc') });
  await stage.agent.stop();
  const detaching = stage.successor(['--detach-on-exit']);
  await detaching.start();
  await detaching.stop();
  assert.deepEqual((await stage.kernel()).entries, []);
  const [there, away] = ['xdp-mark-2', 'xdp-mark-2.away'].map((name) => join(stage.repository, name)) as [
    string,
    string,
  ];
  await rename(there, away);
  await rm(join(stage.stateDir, 'packages'), { recursive: true });

  // when the agent starts, twice
  for (let boot = 1; boot <= 2; boot++) {
    await stage.agent.start();

    // then the hook that can be restored is restored, and the other one is empty
    await eventually(
      async () => namesOf(await stage.chain('ingress')),
      (names) => names.length === 1,
      'the chain that needs no package from there should stand',
    );
    // A read must not catch the programs that a retry loads and rolls back.
    await eventually(
      () => stage.chain(),
      (chain) => chain === undefined,
      'the hook should be empty',
    );
    await stage.agent.kill('SIGKILL');
  }

  // and when the package is available again, the chain is too: nothing was forgotten
  await rename(away, there);
  await stage.agent.start();
  await eventually(
    async () => namesOf(await stage.chain()).join(' '),
    (names) => names === 'xdp-mark-1@1.0 xdp-mark-2@1.0',
    'the chain should come back',
  );
  await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0']);
});

test('l3afd defect 14: programs are forgotten before they have stopped', async (t) => {
  // given a chain whose link cannot be removed, because something is mounted on its pin
  await stage.deploy({ xdp_ingress: marks([1, 2]) });
  const before = await stage.kernel();
  const link = join(stage.bpffs, 'links', stage.bed.iface, 'xdp-root', 'latest', 'xdpingress');
  await run('mount', ['--bind', link, link]);
  t.after(() => run('umount', [link]).catch(() => undefined));

  // when everything is to be removed
  const ack = await stage.deploy({});

  // then the command fails, the chain is unchanged, and the agent still knows it
  assert.deepEqual([ack.status, ack.undone], ['failed', true], JSON.stringify(ack));
  await assertChain(stage, ['xdp-mark-1@1.0', 'xdp-mark-2@1.0']);
  assert.deepEqual(await stage.kernel(), before);
  const { programs } = await stage.fleet.programs(stage.host);
  assert.deepEqual(
    programs.map(({ name }) => name),
    ['xdp-mark-1', 'xdp-mark-2'],
  );

  // and when the link can be removed, the same command succeeds
  await run('umount', [link]);
  assert.deepEqual(resultsOf(await stage.deploy({})), { 'xdp-mark-1': 'stopped', 'xdp-mark-2': 'stopped' });
  assert.deepEqual((await stage.kernel()).entries, []);
});

test('l3afd defect 15: a refusal answers success', async () => {
  const [first, second] = marks([1, 2]) as [PayloadProgram, PayloadProgram];
  await stage.deploy({ xdp_ingress: [first, second] });
  const before = await stage.kernel();

  const answers = {
    'a name that is there with other content': await stage.add({ xdp_ingress: [{ ...first, version: '2.0' }] }),
    'a place that is taken': await stage.add({ xdp_ingress: [payloadProgram('xdp-mark-3', { seq_id: 10 })] }),
    'a package that is not there': await stage.add({
      xdp_ingress: [payloadProgram('xdp-mark-3', { seq_id: 30, version: '9.9' })],
    }),
    'an interface that is not there': await stage.send('add', stage.payload({ xdp_ingress: [first] }, 'l3af-absent')),
    'another host': await stage.send('deploy', [{ ...stage.payload({})[0], host_name: 'elsewhere' }]),
    'no JSON': await stage.send('deploy', Buffer.from('[{]')),
    'an unknown field': await stage.add({ xdp_ingress: [{ ...first, surprise: 1 } as PayloadProgram] }),
  };

  for (const [what, { status, code, message, errors }] of Object.entries(answers)) {
    assert.match(status, /^(rejected|failed)$/, what);
    assert.ok(code !== undefined && (message ?? '').length > 10, what);
    assert.ok(errors.length > 0, what);
  }
  assert.deepEqual(await stage.kernel(), before);

  // An unknown name is not refused, but the answer does not say that it was stopped.
  const { status, programs } = await stage.delete({ xdp_ingress: ['nobody'] });
  assert.equal(status, 'unchanged');
  assert.equal(programs.find(({ name }) => name === 'nobody')?.result, 'unchanged');
});
