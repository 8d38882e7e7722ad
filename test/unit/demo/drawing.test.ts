import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Style } from '../../../src/ctl/style.js';
import { drawTitle, growingTable, wrapped } from '../../demo/drawing.js';

const plain: Style = (_format, text) => text;

describe("the demo's drawings", () => {
  it('fill the line after a title', () => {
    const [line = ''] = drawTitle(3, 'An act', plain);

    assert.match(line, /^── 3 {2}An act ─+$/);
    assert.equal(line.length, 96);
  });

  it('align the rows of a table before all rows are known, and mark missing numbers', () => {
    const table = growingTable(['', 'port-count', 'dropped'], plain);

    assert.equal(table.head, '            port-count     dropped');
    assert.equal(table.row(['0.5 s', 12_345, undefined]), '0.5 s           12,345           –');
  });

  it('break long lines at blanks and indent the rest', () => {
    const line = `  ${'word '.repeat(30).trimEnd()}`;

    const lines = wrapped(line);

    assert.ok(lines.length > 1 && lines.every((part) => part.length <= 96));
    assert.ok(lines.slice(1).every((part) => part.startsWith('    word')));
    assert.equal(lines.map((part) => part.trim()).join(' '), line.trim());
    assert.deepEqual(wrapped('x'.repeat(200)), ['x'.repeat(200)], 'a word that is too long stays whole');
  });
});
