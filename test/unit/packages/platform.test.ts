import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { distributionCodename } from '../../../src/packages/platform.js';
import { scratchFolder } from '../../support/scratch.js';

const RELEASES = [
  ['Debian', 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n', 'bookworm'],
  ['a derivative of Ubuntu', 'ID=pop\nVERSION_CODENAME=""\nUBUNTU_CODENAME=jammy\n', 'jammy'],
  ['a distribution without codenames', 'ID="rhel"\nVERSION_ID=\'9.4\'\n', 'rhel9.4'],
  ['a rolling distribution', '# no version\nID=arch\n', 'arch'],
  ['a file that says nothing', 'NAME="Something"\nnot an assignment\n', 'any'],
] as const;

for (const [what, content, expected] of RELEASES) {
  test(`the platform of ${what} is ${expected}`, async (t) => {
    const path = join(await scratchFolder(t), 'os-release');
    await writeFile(path, content);
    assert.equal(await distributionCodename(path), expected);
  });
}

test('a host without an os-release file has the platform any', async (t) => {
  assert.equal(await distributionCodename(join(await scratchFolder(t), 'absent')), 'any');
});
