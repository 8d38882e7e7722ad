import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readObjectFile } from '../../../src/datapath/object.js';
import { AgentError } from '../../../src/errors.js';
import { damagedObjects } from '../../support/damaged-objects.js';

test('a damaged object file is read as it stands, or refused as such', () => {
  let refused = 0;
  for (const { what, bytes } of damagedObjects(1, 8000)) {
    try {
      readObjectFile(bytes);
    } catch (error) {
      refused += 1;
      assert.ok(error instanceof AgentError && error.code === 'OBJECT_INVALID', `${what}: ${error}`);
      // A mistake of ours would be a TypeError; what is not there is looked for, and is a RangeError.
      assert.ok(!(error.cause instanceof TypeError), `${what}: ${error.cause}`);
    }
  }
  assert.ok(refused > 500, `only ${refused} were refused`);
});
