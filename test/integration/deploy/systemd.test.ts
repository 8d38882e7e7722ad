import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { AGENT, PROJECT_ROOT } from '../../support/project.js';

const unit = readFileSync(join(PROJECT_ROOT, 'deploy/systemd/l3af-agent.service'), 'utf8');

/** Exit status of the agent with the unit's command line, except for the path of the configuration. */
function statusOf(...more: readonly string[]): number | null {
  const [, words] = /^ExecStart=\S+ \S+\/dist\/bin\/l3af-agent\.js (.+)$/m.exec(unit)!;
  const args = words!.replace('/etc/l3af-agent/agent.yaml', '/nonexistent/agent.yaml').split(' ');
  return spawnSync(process.execPath, [AGENT, ...args, ...more]).status;
}

test('the unit starts the agent with valid options, and does not restart it when that cannot help', () => {
  const [, words] = /^RestartPreventExitStatus=(.+)$/m.exec(unit)!;
  const final = words!.split(' ').map(Number);

  // The options are valid: only the configuration file does not exist.
  assert.equal(statusOf(), 78);
  assert.equal(statusOf('--no-such-option'), 64);
  assert.deepEqual(final, [64, 78]);
});

test('the unit provides the folder to which L3AF’s companions write their logs', () => {
  assert.match(unit, /^LogsDirectory=l3af$/m);
});
