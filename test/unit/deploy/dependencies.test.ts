import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PROJECT_ROOT } from '../../support/project.js';
import { PACKAGES } from '../../support/tool.js';

test('deploy/install-deps.sh installs the package of every tool that the tests call', () => {
  const script = readFileSync(join(PROJECT_ROOT, 'deploy/install-deps.sh'), 'utf8');
  const installed = [...script.matchAll(/^\t+need (\S+) (?:command|library|header) \S+$/gm)].map(([, name]) => name!);

  assert.ok(installed.length > 5);
  assert.deepEqual(
    [...new Set(Object.values(PACKAGES))].filter((name) => !installed.includes(name)),
    [],
  );
});
