import assert from 'node:assert/strict';
import { readFileSync, readlinkSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { test } from 'node:test';
import { launch } from '../../../src/companions/launch.js';
import { CompanionBed, DAEMON, failsWith, launchOf, stateOf } from '../../support/companions.js';
import { until } from '../../support/until.js';

test('a daemon is started with l3afd’s options, in its own session, with a small environment', async (t) => {
  const bed = await CompanionBed.create(t, { logDir: '/var/log/companions' });
  const companions = await bed.open();
  await bed.script('run', DAEMON);
  await companions.start(launchOf({ startArgs: { ports: '80,443', 'max-rate': '7' } }), [3, 2], 0);

  const [found] = await companions.observe();
  assert.equal(found?.state, 'running');
  assert.deepEqual(found.maps, [2, 3]);
  assert.equal(
    await bed.hears(/^args/),
    'args: --iface=veth0 --direction=xdpingress --version=1_0 --log-dir=/var/log/companions --ports=80,443 --max-rate=7',
  );
  const pid = found.pid!;
  const [, , , , group, session] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ');
  assert.deepEqual([group, session], [String(pid), String(pid)]);
  assert.equal(readlinkSync(`/proc/${pid}/cwd`), bed.path('.').replace(/\/\.$/, ''));
  const variables = readFileSync(`/proc/${pid}/environ`, 'utf8')
    .split('\0')
    .map((entry) => entry.split('=')[0]);
  assert.deepEqual(
    variables.filter((name) => !['', 'PWD', 'OLDPWD', 'SHLVL', '_', 'NODE_V8_COVERAGE'].includes(name!)).toSorted(),
    ['L3AF_COMPANION', 'LANG', 'PATH'],
  );
  const line = bed.logged.find(({ message }) => message === 'companion output')!;
  assert.deepEqual(
    { program: line.program, pid: line.pid, stream: line.stream },
    { program: 'watcher', pid, stream: 'stdout' },
  );

  await companions.stop(found.launch);
  assert.equal(stateOf(pid), undefined, 'it is gone, and no zombie');
  assert.deepEqual(await companions.observe(), []);
});

test('a daemon that ends during its settling time has failed to start, and its last output says why', async (t) => {
  const bed = await CompanionBed.create(t, { times: { settleMs: 20_000 } });
  const companions = await bed.open();
  await bed.script('run', '#!/bin/sh\necho starting\necho "no such map" >&2\nexit 3\n');
  const error = await failsWith(
    companions.start(launchOf(), [], 0),
    'COMPANION_FAILED',
    /run .*ended at once: exit status 3/,
  );
  assert.equal(error.path, 'cmd_start');
  assert.match(error.detail ?? '', /no such map/);
  assert.deepEqual(await companions.observe(), []);
});

/** Ends at an unknown option, like programs with getopt_long(3) and a usage text. */
const strict = (known: string, then: string, status = 1) =>
  `#!/bin/sh
for arg in "$@"; do
  case $arg in
    ${known}) ;;
    *) echo "Usage: $0 (options-see-below)"; echo "$0: unrecognized option '$arg'" >&2; exit ${status} ;;
  esac
done
${then}`;

for (const status of [0, 1]) {
  test(`an old companion that does not know --version is started without it (its usage ends with ${status})`, async (t) => {
    const bed = await CompanionBed.create(t, { times: { settleMs: 2_000 } });
    const companions = await bed.open();
    await bed.script('run', strict('--iface=*|--direction=*|--ports=*', DAEMON.replace('#!/bin/sh', ''), status));
    await companions.start(launchOf({ startArgs: { ports: '80' } }), [], 0);

    assert.equal(await bed.hears(/^args/), 'args: --iface=veth0 --direction=xdpingress --ports=80');
    const [found] = await companions.observe();
    assert.equal(found?.state, 'running');
    await companions.stop(found.launch);
    assert.equal(stateOf(found.pid!), undefined);
  });
}

test('a companion that does not know another option has failed', async (t) => {
  const bed = await CompanionBed.create(t, { times: { settleMs: 2_000 } });
  const companions = await bed.open();
  await bed.script('run', strict('--iface=*|--direction=*', 'exec sleep 1000'));
  const error = await failsWith(
    companions.start(launchOf({ startArgs: { ports: '80' } }), [], 0),
    'COMPANION_FAILED',
    /ended at once: exit status 1$/,
  );
  assert.match(error.detail ?? '', /unrecognized option '--ports=80'/);
});

test('a missing file or one that is not executable is noticed before anything is started', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', DAEMON);
  const missing = await failsWith(
    companions.check(launchOf({ cmdStop: 'halt' })),
    'COMPANION_NOT_FOUND',
    /no file halt/,
  );
  assert.equal(missing.path, 'cmd_stop');
  await chmod(bed.path('run'), 0o644);
  const error = await failsWith(companions.check(launchOf()), 'COMPANION_NOT_FOUND', /run .*not executable/);
  assert.equal(error.path, 'cmd_start');
});

test('the error says that a companion cannot be started because its package is gone', async () => {
  const request = { program: '/no/package/run', args: [], id: '', cgroup: '', addressSpace: 0, cpuSeconds: 0 };
  const error = await failsWith(
    launch({ ...request, output: ['pipe', 'pipe'] }),
    'COMPANION_FAILED',
    /^run cannot be started: the folder of its package, \/no\/package, is gone$/,
  );
  assert.match(error.detail ?? '', /ENOENT/);
});

test('a one-shot companion succeeds or fails by its exit status', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', '#!/bin/sh\necho "rules of $1 are set"\n');
  await companions.start(launchOf({ daemon: false }), [5], 0);
  const [done] = await companions.observe();
  assert.equal(done?.state, 'done');
  assert.ok(bed.said().includes('rules of --iface=veth0 are set'));

  await bed.script('run', '#!/bin/sh\necho "cannot" >&2\nexit 9\n');
  const error = await failsWith(
    companions.start(launchOf({ daemon: false }), [5], 0),
    'COMPANION_FAILED',
    /exit status 9/,
  );
  assert.equal(error.detail, 'cannot');
  assert.deepEqual(await companions.observe(), []);
});

test('a one-shot companion that hangs is killed at its deadline, with its children', async (t) => {
  const bed = await CompanionBed.create(t, { times: { commandMs: 500 } });
  const companions = await bed.open();
  await bed.script('run', '#!/bin/sh\nsleep 999 &\necho "child $!"\nwait\n');
  await failsWith(companions.start(launchOf({ daemon: false }), [], 0), 'COMPANION_FAILED', /no end within 0.5 s/);
  const child = Number((await bed.hears(/^child/)).split(' ')[1]);
  await until('the child is gone', () => [undefined, 'Z'].includes(stateOf(child)));
});

test('update and configuration commands run after the start, and if they fail the start fails', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', DAEMON);
  await bed.script('set', '#!/bin/sh\necho "set: $*"\n');
  await bed.script('conf', '#!/bin/sh\necho "conf: $*"\n');
  const commands = { cmdUpdate: 'set', updateArgs: { rate: '5' }, cmdConfig: 'conf', configArgs: { file: 'a b' } };
  await companions.start(launchOf(commands), [], 0);
  assert.ok(bed.said().includes('set: --iface=veth0 --direction=xdpingress --cmd=update --version=1_0 --rate=5'));
  assert.ok(bed.said().includes('conf: --iface=veth0 --direction=xdpingress --version=1_0 --file=a b'));

  await bed.script('conf', '#!/bin/sh\nexit 4\n');
  const error = await failsWith(
    companions.start(launchOf(commands), [], 0),
    'COMPANION_FAILED',
    /cmd_config failed: exit status 4/,
  );
  assert.equal(error.path, 'cmd_config');
  assert.deepEqual(await companions.observe(), [], 'the daemon is not left without its configuration');
});

test('a daemon has started when its status command says RUNNING', async (t) => {
  const bed = await CompanionBed.create(t, { times: { readyMs: 5_000 } });
  const companions = await bed.open();
  await bed.script('run', '#!/bin/sh\nsleep 0.6\ntouch ready\nexec sleep 1000\n');
  await bed.script('state', '#!/bin/sh\n[ "$*" = "--pretty=no" ] && [ -e ready ] && echo running\n');
  const launch = launchOf({ cmdStatus: 'state', statusArgs: { pretty: 'no' } });
  await companions.start(launch, [], 0);
  assert.equal(await companions.status(launch), 'running');
  assert.equal(await companions.status(launchOf({}, 'another')), undefined);

  await bed.script('state', '#!/bin/sh\necho STOPPED\n');
  assert.equal(await companions.status(launch), 'not running');
});

test('rules are written to the package, one file for each hook', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script(
    'run',
    '#!/bin/sh\nfor arg; do :; done\necho "last: $arg"\ncat "$(echo "$arg" | cut -d= -f2)"\nexec sleep 1000\n',
  );
  const launch = launchOf({ rulesFile: 'my.rules', rules: 'deny 10.0.0.1\n' });
  await companions.start(launch, [], 0);
  assert.equal(await bed.hears(/^last/), `last: --rules-file=${bed.path('.rules/veth0/xdpingress/my.rules')}`);
  await bed.hears(/^deny 10.0.0.1$/);
});

test('the kernel holds a companion to its limits', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', '#!/bin/sh\necho "$(ulimit -t) $(ulimit -v)"\nwhile :; do :; done\n');
  await companions.start(launchOf({ cpuSeconds: 1 }), [], 0);
  await bed.hears(/^1 unlimited$/);
  await until('its time is up', async () => (await companions.observe())[0]?.state === 'ended');

  // Twice the limit, in one piece.
  const hungry = '#!/bin/sh\nhead -c 200000000 /dev/zero | tail -c 200000000 | wc -c\n';
  await bed.script('run', hungry);
  // A control group kills the whole companion. An address space limit only fails the one process that exceeds it.
  await companions.start(launchOf({ daemon: false, memoryBytes: 100_000_000 }), [], 0).catch(() => undefined);
  assert.ok(!bed.said('stdout').includes('200000000'), 'it had more memory than it may have');
});
