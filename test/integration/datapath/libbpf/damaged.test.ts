import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { entriesBelow } from '../../../support/pins.js';
import { mountBpffs } from '../../../support/testbed.js';
import { run } from '../../../support/tool.js';

/* In its own process: libbpf 1.1 can be made to crash by type information that refers to types that do not exist. */

test('damaged objects are loaded or refused, and none crashes the process or leaves anything', async () => {
  const bpffs = await mountBpffs();
  try {
    const script = join(import.meta.dirname, '../../..', 'support', 'load-damaged.js');
    const args = [script, bpffs.path, '1', '1500', '0'];
    const { stdout } = await run(process.execPath, args, { maxBuffer: 64 * 2 ** 20 }).catch((error) => {
      const lines = String(error.stdout).trimEnd().split('\n');
      assert.fail(`ended by ${error.signal ?? error.code}: ${lines.slice(-2).join('; ')}`);
    });

    const tally = JSON.parse(/^end (.*)$/m.exec(stdout)?.[1] ?? '{}') as Record<string, number>;
    assert.ok(tally.loaded !== undefined && tally.loaded > 100, JSON.stringify(tally));
    assert.ok(tally.OBJECT_INVALID !== undefined && tally.OBJECT_INVALID > 100, JSON.stringify(tally));
    assert.deepEqual(
      Object.keys(tally).filter((code) => code === 'KERNEL' || code === 'INTERNAL'),
      [],
    );
    assert.deepEqual(entriesBelow(bpffs.path), []);
  } finally {
    await bpffs.unmount();
  }
});
