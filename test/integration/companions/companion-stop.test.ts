import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CompanionBed, DAEMON, launchOf, pidOf, processesWith, stateOf } from '../../support/companions.js';
import { until } from '../../support/until.js';

test('a companion is stopped by its own command, with its arguments', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', '#!/bin/sh\necho $$ >pid\nexec sleep 1000\n');
  await bed.script('halt', '#!/bin/sh\necho "halt: $*"\nkill "$(cat pid)"\n');
  const launch = launchOf({ cmdStop: 'halt', stopArgs: { how: 'soft' } });
  await companions.start(launch, [], 0);
  await companions.stop(launch);
  assert.ok(bed.said().includes('halt: --iface=veth0 --direction=xdpingress --how=soft'));
  assert.deepEqual(processesWith(bed.dir), []);
});

test('a companion that ignores its stop command and SIGTERM is killed after the deadline', async (t) => {
  const bed = await CompanionBed.create(t, { times: { stopMs: 400 } });
  const companions = await bed.open();
  await bed.script('run', "#!/bin/sh\ntrap 'echo heard' TERM\nwhile :; do sleep 0.05; done\n");
  await bed.script('halt', '#!/bin/sh\nexit 1\n');
  for (const cmdStop of ['', 'halt']) {
    const launch = launchOf({ cmdStop });
    await companions.start(launch, [], 0);
    await companions.stop(launch);
    await bed.hears(/^heard/);
    assert.deepEqual(processesWith(bed.dir), []);
    bed.logged.length = 0;
  }
});

// The code uses control groups of version 2 if the host has them. On a host without them, both runs are the same.
for (const [where, options] of [
  ['with a control group if the host has them', {}],
  ['without a control group', { findCgroups: async () => undefined }],
] as const) {
  test(`all processes that a companion has started end with it, even outside its session, ${where}`, async (t) => {
    const bed = await CompanionBed.create(t, { ...options, times: { stopMs: 300 } });
    const companions = await bed.open();
    await bed.script(
      'run',
      '#!/bin/sh\nsleep 1001 &\nsetsid sleep 1002 &\n(trap "" TERM; exec sleep 1003) &\necho started\nexec sleep 1000\n',
    );
    await companions.start(launchOf(), [], 0);
    await bed.hears(/started/);
    await until('four processes run', () => processesWith(bed.dir).length === 4);
    await companions.stop(launchOf());
    assert.deepEqual(processesWith(bed.dir), []);
  });

  test(`a companion that forks without end is ended, ${where}`, async (t) => {
    const bed = await CompanionBed.create(t, { ...options, times: { stopMs: 100 } });
    const companions = await bed.open();
    // Each process starts one child and ends, so that no process lives long.
    await bed.script(
      'run',
      '#!/bin/sh\nif [ "$1" = next ]; then sleep 0.02; "$0" next & exit; fi\nfor i in 1 2 3 4 5; do "$0" next & done\nexec sleep 1000\n',
    );
    await companions.start(launchOf(), [], 0);
    await until('it has forked', () => processesWith(bed.dir).length > 1);
    await companions.stop(launchOf());
    assert.deepEqual(processesWith(bed.dir), []);
  });

  test(`a companion’s zombies disappear with it, ${where}`, async (t) => {
    const bed = await CompanionBed.create(t, options);
    const companions = await bed.open();
    // The child becomes a zombie, since its parent never waits for it.
    await bed.script('run', '#!/bin/sh\nsleep 0.05 &\necho "child $!"\nexec sleep 1000\n');
    await companions.start(launchOf(), [], 0);
    const child = Number((await bed.hears(/^child/)).split(' ')[1]);
    await until('the child is a zombie', () => stateOf(child) === 'Z');
    const pid = await pidOf(companions);
    await companions.stop(launchOf());
    assert.equal(stateOf(pid), undefined);
    assert.ok([undefined, 'Z'].includes(stateOf(child)), 'the child is nobody’s but init’s');
  });
}

test('a daemon that ends by itself is reported as ended', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', DAEMON);
  await companions.start(launchOf(), [], 0);
  const pid = await pidOf(companions);
  process.kill(pid, 'SIGSEGV');
  await until('it is seen', async () => (await companions.observe())[0]?.state === 'ended');
  assert.equal(await companions.status(launchOf()), 'not running');
  await until('it is told', () =>
    bed.logged.some(({ message, ending }) => message === 'companion process ended' && ending === 'SIGSEGV'),
  );
  await companions.start(launchOf(), [], 1);
  assert.deepEqual(
    (await companions.observe()).map(({ state, restarts }) => [state, restarts]),
    [['running', 1]],
  );
});

test('foreign processes with the same name are left alone; the same file for the same hook without a record is ended', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  // l3afd would search for this name: the first 15 characters, anywhere in a process name.
  const stay = '#!/bin/sh\nwhile :; do sleep 0.05; done\n';
  await bed.script('stay', stay);
  await bed.script('../elsewhere/stay', stay);
  const begin = async (path: string, ...args: string[]) => {
    const child = spawn(path, args, { stdio: 'ignore' });
    await once(child, 'spawn');
    return child;
  };
  const hookWords = ['--iface=veth0', '--direction=xdpingress'];
  const stranger = await begin(join(bed.dir, 'elsewhere', 'stay'), ...hookWords);
  const otherHook = await begin(bed.path('stay'), '--iface=veth1', '--direction=xdpingress');
  const older = await begin(bed.path('stay'), ...hookWords);
  t.after(() => [stranger, otherHook, older].forEach((child) => void child.kill('SIGKILL')));

  await companions.start(launchOf({ cmdStart: 'stay' }), [], 0);
  assert.equal(stateOf(older.pid!), undefined);
  for (const { pid } of [stranger, otherHook]) assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /./);
  await companions.stop(launchOf({ cmdStart: 'stay' }));
  for (const { pid } of [stranger, otherHook]) assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /./);
  for (const child of [stranger, otherHook]) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  // A script that was ended in its loop may have left its own `sleep`.
  await until('all is gone', () => processesWith(bed.dir).length === 0);
});
