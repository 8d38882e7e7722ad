import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PROJECT_ROOT } from '../../support/project.js';

const unit = readFileSync(join(PROJECT_ROOT, 'deploy/systemd/l3af-agent.service'), 'utf8');

/** Exit status of the agent, called as the unit calls it but for the place of its configuration. */
function statusOf(...more: readonly string[]): number | null {
  const [, words] = /^ExecStart=\S+ \S+\/dist\/src\/main\.js (.+)$/m.exec(unit)!;
  const args = words!.replace('/etc/l3af-agent/agent.yaml', '/nonexistent/agent.yaml').split(' ');
  return spawnSync(process.execPath, [join(PROJECT_ROOT, 'dist/src/main.js'), ...args, ...more]).status;
}

test('the unit calls the agent with options that it has, and does not restart it where that cannot help', () => {
  const [, words] = /^RestartPreventExitStatus=(.+)$/m.exec(unit)!;
  const final = words!.split(' ').map(Number);

  // The options are understood: what is wrong is the configuration, which is not there.
  assert.equal(statusOf(), 78);
  assert.equal(statusOf('--no-such-option'), 64);
  assert.deepEqual(final, [64, 78]);
});

test('the unit gives companions the folder that L3AF’s own write their logs to', () => {
  assert.match(unit, /^LogsDirectory=l3af$/m);
});
