import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Style } from '../../../src/ctl/style.js';
import { drawChain, drawTitle, growingTable, wrapped } from '../../demo/drawing.js';

const plain: Style = (_format, text) => text;
const bracketed: Style = (format, text) => `<${[format].flat().join('+')}:${text}>`;

describe("the demo's drawings", () => {
  it('show a chain as boxes joined by arrows', () => {
    const members = [
      { title: 'xdp-root', programId: 12, slotId: 21, highlighted: false },
      { title: 'port-count 1.0', programId: 14, slotId: 25, highlighted: false },
      { title: 'last', programId: 16, slotId: undefined, highlighted: false },
    ];

    assert.deepEqual(drawChain({ title: 'eth1 xdpingress', members }, plain), [
      'eth1 xdpingress',
      '╭ xdp-root ╮    ╭ port-count 1.0 ╮    ╭ last ───╮',
      '│ prog 12  │ ─▶ │ prog 14        │ ─▶ │ prog 16 │',
      '╰ slot 21 ─╯    ╰ slot 25 ───────╯    ╰─────────╯',
    ]);
  });

  it('keep four programs with long ids within 100 columns', () => {
    const members = ['xdp-root', 'port-count 1.0', 'port-drop 1.0', 'rate-limit 1.0'].map((title) => {
      return { title, programId: 1_234_567, slotId: 1_234_567, highlighted: false };
    });

    const widths = drawChain({ title: '', members }, plain).map((line) => line.length);

    assert.ok(Math.max(...widths) + 2 <= 100, `${widths}`);
  });

  it('highlight a program by its colour alone', () => {
    const member = { title: 'new', programId: 1, slotId: 2, highlighted: true };

    const drawn = drawChain({ title: '', members: [member] }, bracketed);

    assert.match(drawn.join('\n'), /<yellow\+bold:new>/);
    assert.doesNotMatch(
      drawChain({ title: '', members: [{ ...member, highlighted: false }] }, bracketed).join('\n'),
      /yellow/,
    );
  });

  it('fill the line after a title', () => {
    const [line = ''] = drawTitle(3, 'An act', plain);

    assert.match(line, /^── 3 {2}An act ─+$/);
    assert.equal(line.length, 96);
  });

  it('align the rows of a table that is not known yet, and say where there is no number', () => {
    const table = growingTable(['', 'port-count', 'dropped'], plain);

    assert.equal(table.head, '            port-count     dropped');
    assert.equal(table.row(['0.5 s', 12_345, undefined]), '0.5 s           12,345           –');
  });

  it('break long lines at blanks and indent what follows', () => {
    const line = `  ${'word '.repeat(30).trimEnd()}`;

    const lines = wrapped(line);

    assert.ok(lines.length > 1 && lines.every((part) => part.length <= 96));
    assert.ok(lines.slice(1).every((part) => part.startsWith('    word')));
    assert.equal(lines.map((part) => part.trim()).join(' '), line.trim());
    assert.deepEqual(wrapped('x'.repeat(200)), ['x'.repeat(200)], 'a word that is too long stays whole');
  });
});
