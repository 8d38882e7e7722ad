import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  CompanionBed,
  DAEMON,
  launchOf,
  pidOf,
  processesWith,
  stateOf,
  withoutForks,
} from '../../support/companions.js';
import { until, untilGiven } from '../../support/until.js';

test('a companion keeps running without its agent, and the next agent adopts it', async (t) => {
  const bed = await CompanionBed.create(t);
  const first = await bed.open();
  await bed.script('run', '#!/bin/sh\ni=0\nwhile :; do i=$((i+1)); echo "line $i"; sleep 0.02; done\n');
  const launch = launchOf({ startArgs: { a: '1' } });
  await first.start(launch, [7], 2);
  const [before] = await first.observe();
  await bed.hears(/^line 5$/);
  await first.close();

  const second = await bed.open();
  assert.deepEqual(await second.observe(), [before]);
  await bed.hears(/^line 40$/);
  const numbers = bed.said().map((line) => Number(line.split(' ')[1]));
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => index + 1),
    'each line is logged once, including those from the time between the agents',
  );
  await second.stop(launch);
  assert.equal(stateOf(before!.pid!), undefined);
});

test('a companion that ended while no agent was running is known as ended, and its children are gone', async (t) => {
  const bed = await CompanionBed.create(t);
  const first = await bed.open();
  await bed.script('run', '#!/bin/sh\nsleep 1001 &\nwait\n');
  await first.start(launchOf(), [], 0);
  const pid = await pidOf(first);
  await first.close();
  process.kill(pid, 'SIGKILL');
  await until('it is reaped', () => stateOf(pid) === undefined);

  const second = await bed.open();
  assert.deepEqual(
    (await second.observe()).map(({ state }) => state),
    ['ended'],
  );
  assert.deepEqual(processesWith(bed.dir), []);
});

test('a different process with the recorded id is not treated as the companion and is left alone', async (t) => {
  const bed = await CompanionBed.create(t);
  const first = await bed.open();
  await bed.script('run', DAEMON);
  await first.start(launchOf(), [], 0);
  const pid = await pidOf(first);
  await first.close();
  const [id] = await readdir(join(bed.dir, 'state'));
  const path = join(bed.dir, 'state', id!, 'record.json');
  const record = JSON.parse(await readFile(path, 'utf8'));
  // The test's own process plays the foreign process with the reused id.
  await writeFile(path, JSON.stringify({ ...record, process: { pid: process.pid, startTime: '1' } }));

  const second = await bed.open();
  assert.deepEqual(
    (await second.observe()).map(({ state }) => state),
    ['ended'],
  );
  assert.equal(stateOf(pid), undefined, 'the real one is known by its environment and has gone');
});

test('a companion whose start was incomplete when the agent died is ended', async (t) => {
  const bed = await CompanionBed.create(t, { times: { settleMs: 60_000 } });
  const first = await bed.open();
  await bed.script('run', DAEMON);
  // The promise never settles, like for an agent that dies in the settling time.
  void first.start(launchOf(), [], 0).catch(() => undefined);
  await bed.hears(/^args/);

  const second = await bed.open();
  assert.deepEqual(await second.observe(), []);
  assert.deepEqual(processesWith(bed.dir), []);
});

test('a record from another boot, or one that cannot be read, is ignored', async (t) => {
  const bed = await CompanionBed.create(t);
  const first = await bed.open();
  await bed.script('run', DAEMON);
  await first.start(launchOf({}, 'a'), [], 0);
  await first.start(launchOf({}, 'b'), [], 0);
  await first.close();
  const [one, other] = (await readdir(join(bed.dir, 'state'))).map((id) => join(bed.dir, 'state', id, 'record.json'));
  const record = JSON.parse(await readFile(one!, 'utf8'));
  await writeFile(one!, JSON.stringify({ ...record, bootId: 'another' }));
  await writeFile(other!, '{"id":');

  const second = await bed.open();
  assert.deepEqual(await second.observe(), []);
  assert.deepEqual(await readdir(join(bed.dir, 'state')), []);
  assert.deepEqual(processesWith(bed.dir), [], 'its processes are known by their environment');
});

test('a one-shot companion that has run is still known to have run', async (t) => {
  const bed = await CompanionBed.create(t);
  const first = await bed.open();
  await bed.script('run', '#!/bin/sh\nexit 0\n');
  await first.start(launchOf({ daemon: false }), [9], 0);
  await first.close();
  const second = await bed.open();
  assert.deepEqual(
    (await second.observe()).map(({ state, maps }) => [state, maps]),
    [['done', [9]]],
  );
});

test('new update arguments run the update command and nothing else', async (t) => {
  const bed = await CompanionBed.create(t, { times: { stopMs: 300 } });
  const companions = await bed.open();
  await bed.script('run', DAEMON);
  await bed.script('set', '#!/bin/sh\necho "set: $*"\n');
  await bed.script('halt', '#!/bin/sh\necho halt\n');
  const launch = launchOf({ cmdUpdate: 'set', updateArgs: { rate: '5' } });
  await companions.start(launch, [], 0);
  const [before] = await companions.observe();

  const next = launchOf({ cmdUpdate: 'set', updateArgs: { rate: '6' }, cmdStop: 'halt' });
  await companions.update(launch, next);
  const sets = bed.said().filter((line) => line.startsWith('set:'));
  assert.deepEqual(
    sets.map((line) => line.split(' ').at(-1)),
    ['--rate=5', '--rate=6'],
  );
  const [after] = await companions.observe();
  assert.equal(after?.pid, before?.pid);
  assert.deepEqual(after?.launch, next);
  await companions.stop(next);
  assert.ok(bed.said().includes('halt'), 'the command that was added is known');
});

const LOOP = 'while :; do sleep 0.05; done';
const HOOK_WORDS = ['--iface=veth0', '--direction=xdpingress'];

/** A process that no agent has started. It ends with the test. */
async function begin(t: TestContext, path: string, words: readonly string[]): Promise<number> {
  const child = spawn(path, words, { stdio: 'ignore', detached: true });
  await once(child, 'spawn');
  const ended = once(child, 'exit');
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
    await ended;
  });
  return child.pid!;
}

const runs = (pid: number) => ['S', 'R', 'D'].includes(stateOf(pid) ?? 'gone');

test('a tracer or debugger with the command line of a companion is not treated as the companion', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('../elsewhere/trace', `#!/bin/sh\n${LOOP}\n`);
  const trace = join(bed.dir, 'elsewhere', 'trace');
  for (const kind of ['a script', 'a native program']) {
    if (kind === 'a script') await bed.script('run', `#!/bin/sh\n${LOOP}\n`);
    else await copyFile('/bin/echo', bed.path('run'));
    const strangers = [
      await begin(t, trace, [bed.path('run'), ...HOOK_WORDS]),
      await begin(t, '/bin/sh', [trace, '-f', bed.path('run'), ...HOOK_WORDS]),
    ];
    await companions.start(launchOf({ daemon: kind === 'a script' }), [], 0);
    await companions.stop(launchOf());
    assert.deepEqual(strangers.map(runs), [true, true], kind);
    for (const pid of strangers) process.kill(-pid, 'SIGKILL');
    await until('the strangers have ended', () => !strangers.some(runs));
  }
  await until('all is gone', () => processesWith(bed.dir).length === 0);
});

test('an instance without a record is known by its file, however it names its interpreter', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  for (const line of ['#!/bin/sh', '#! /bin/sh -e', '#!/usr/bin/env sh', '#!/usr/bin/env -S sh -e']) {
    await bed.script('run', `${line}\n${LOOP}\n`);
    const older = await begin(t, bed.path('run'), HOOK_WORDS);
    await until('its interpreter runs it', async () =>
      /^(\/bin\/)?sh\0/.test(await readFile(`/proc/${older}/cmdline`, 'utf8')),
    );
    await companions.start(launchOf(), [], 0);
    await until(`${line}: it has ended`, () => stateOf(older) === undefined);
    await companions.stop(launchOf());
  }
});

test('an instance without a record that is no script is known by its file, too', async (t) => {
  // A busy machine may take its time to end the shell.
  const bed = await CompanionBed.create(t, { times: { settleMs: 20_000 } });
  const companions = await bed.open();
  await bed.script('run', '');
  await copyFile('/bin/sh', bed.path('run'));
  const native = await begin(t, bed.path('run'), ['-c', LOOP, ...HOOK_WORDS]);
  // The start fails, since a shell does not know the hook's options. Before that, it ends the old instance.
  await assert.rejects(companions.start(launchOf(), [], 0), { code: 'COMPANION_FAILED' });
  await until('the native one has ended', () => stateOf(native) === undefined);
  await until('all is gone', () => processesWith(bed.dir).length === 0);
});

// Each worker has its companion's command line but not its environment, and outlives it. One has also left the session.
const WORKERS = `#!/bin/sh
if [ "$1" = worker ]; then trap '' TERM; ${LOOP}; fi
env -i "$0" worker "$@" &
env -i setsid "$0" worker "$@" &
${LOOP}
`;

for (const [where, options] of [
  ['with a control group if the host has them', {}],
  ['without a control group', { findCgroups: async () => undefined }],
] as const) {
  test(`workers without the environment belong to their companion and are not unrecorded instances, ${where}`, async (t) => {
    const bed = await CompanionBed.create(t, { ...options, times: { stopMs: 300 } });
    const companions = await bed.open();
    await bed.script('run', WORKERS);
    const workers = async () => {
      const all = withoutForks(processesWith(bed.dir)).map(async (pid) => {
        const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
        return words[2] === 'worker' ? [pid] : [];
      });
      return (await Promise.all(all)).flat();
    };
    await companions.start(launchOf({}, 'one'), [], 0);
    const first = await untilGiven('two workers', async () => {
      const found = await workers();
      return found.length === 2 ? found : undefined;
    });

    await companions.start(launchOf({}, 'two'), [], 0);
    await until('there are four workers', async () => (await workers()).length === 4);
    assert.deepEqual(first.map(runs), [true, true]);

    await companions.stop(launchOf({}, 'one'));
    assert.deepEqual(first.map(runs), [false, false]);
    await until('two workers go on', async () => (await workers()).length === 2);
    await companions.stop(launchOf({}, 'two'));
    // A worker that was killed may just have forked.
    await until('none is left', () => processesWith(bed.dir).length === 0);
  });
}
