import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CompanionBed, DAEMON, failsWith, launchOf, pidOf, processesWith, stateOf } from '../../support/companions.js';
import { bytes, onXdp, program } from '../../unit/messages/payloads.js';
import { P0, places, refused } from '../../unit/messages/refused.js';

/*
 * Shows that the defects of l3afd, the predecessor, with user programs do not exist here.
 */

test('l3afd defect 20: a wait without deadline while holding the lock', async (t) => {
  // given a companion that ignores all signals except SIGKILL, and whose commands never end
  const times = { commandMs: 300, statusMs: 300, stopMs: 300 };
  const bed = await CompanionBed.create(t, { times });
  const companions = await bed.open();
  const hangs = '#!/bin/sh\ntrap "" TERM INT HUP\nwhile :; do sleep 1000; done\n';
  for (const file of ['run', 'ask', 'halt', 'set']) await bed.script(file, hangs);
  await companions.start(launchOf({ cmdStop: 'halt' }), [], 0);
  const pid = await pidOf(companions);

  // then every wait ends, and nothing is left
  const asking = launchOf({ cmdStop: 'halt', cmdStatus: 'ask', cmdUpdate: 'set', updateArgs: { rate: '1' } });
  await failsWith(companions.update(launchOf({ cmdStop: 'halt' }), asking), 'COMPANION_FAILED', /no end within 0.3 s/);
  await failsWith(
    companions.start(launchOf({ daemon: false }, 'once'), [], 0),
    'COMPANION_FAILED',
    /no end within 0.3 s/,
  );
  await companions.stop(launchOf());
  assert.equal(stateOf(pid), undefined);
  assert.deepEqual(processesWith(bed.dir), []);
});

test('l3afd defect 25: names, versions, commands and the rules file are not validated: paths escape', () => {
  for (const [field, value] of [
    ['name', '../../etc'],
    ['version', '../1.0'],
    ['artifact', '../../x.tar.gz'],
    ['object_file', '../x.o'],
    ['map_name', '../../x'],
    ['cmd_start', '../../../bin/sh'],
    ['cmd_stop', '/bin/sh'],
    ['cmd_status', 'a/../b'],
    ['cmd_update', 'a b; reboot'],
    ['cmd_config', '$(reboot)'],
    ['rules_file', '../../../etc/cron.d/x'],
  ] as const) {
    const faults = refused('deploy', bytes(onXdp(program({ cmd_start: 'run', rules: 'x', [field]: value }))));
    assert.ok(places(faults).includes(`INVALID_FIELD ${P0}.${field}`), `${field}: ${places(faults)}`);
  }
});

test('l3afd defect 25: the rules file is written wherever a link in the package leads', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', DAEMON);
  const outside = join(bed.dir, 'outside');
  await mkdir(outside);
  await symlink(outside, bed.path('.rules'));
  const launch = launchOf({ rulesFile: 'passwd', rules: 'x' });
  await assert.rejects(companions.start(launch, [], 0), /would lie outside its package/);
  assert.deepEqual(await readdir(outside), []);
});

test('l3afd defect 25: processes are killed by a substring of their name', async (t) => {
  // given a foreign process whose name contains the companion's, started with the same options
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  for (const file of ['run', 'run-of-somebody-else']) await bed.script(file, DAEMON.replace('exec ', ''));
  const words = ['--iface=veth0', '--direction=xdpingress'];
  const stranger = spawn(join(bed.dir, 'package', 'run-of-somebody-else'), words, { stdio: 'ignore', detached: true });
  await once(stranger, 'spawn');
  try {
    // when the companion is started and stopped
    await companions.start(launchOf(), [], 0);
    await companions.stop(launchOf());

    // then the foreign process still runs
    assert.ok(['S', 'R', 'D'].includes(stateOf(stranger.pid!) ?? 'gone'));
  } finally {
    process.kill(-stranger.pid!, 'SIGKILL');
    await once(stranger, 'exit');
  }
});
