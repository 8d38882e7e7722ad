import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readObjectFile } from '../../../src/datapath/memory/object.js';
import { AgentError } from '../../../src/errors.js';
import { damagedObjects } from '../../support/damaged-objects.js';
import { repeats } from '../../support/repeats.js';

const OBJECTS = repeats({ usual: 1_500, full: 8_000 });

test('a damaged object file is read as it is, or refused as invalid', () => {
  let refused = 0;
  for (const { what, bytes } of damagedObjects(1, OBJECTS)) {
    try {
      readObjectFile(bytes);
    } catch (error) {
      refused += 1;
      assert.ok(error instanceof AgentError && error.code === 'OBJECT_INVALID', `${what}: ${error}`);
      // A bug of ours would be a TypeError. A read beyond the file's end is a RangeError, which is expected.
      assert.ok(!(error.cause instanceof TypeError), `${what}: ${error.cause}`);
    }
  }
  assert.ok(refused > OBJECTS / 16, `only ${refused} were refused`);
});
