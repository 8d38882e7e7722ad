import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeLines, encodeLine } from '../../../src/store/line.js';

const lines = [{ head: true }, ['first', 'é\n\u2028'], ['second']].map(encodeLine);
const [head, first, second] = lines as [Buffer, Buffer, Buffer];
const whole = Buffer.concat(lines);

describe('lines of the journal', () => {
  it('are read as they were written', () => {
    const { values, length, headLength, torn, fault } = decodeLines(whole);

    assert.deepEqual(values, [{ head: true }, ['first', 'é\n\u2028'], ['second']]);
    assert.deepEqual(
      { length, headLength, torn, fault },
      { length: whole.length, headLength: head.length, torn: false, fault: undefined },
    );
  });

  it('are a checksum, JSON and a newline, so that a person can read them', () => {
    assert.match(head.toString(), /^[0-9a-f]{8} \{"head":true\}\n$/);
  });

  it('lose only the last one when it was cut short, whatever its length', () => {
    const good = head.length + first.length;
    for (let length = good + 1; length < whole.length; length += 1) {
      const { values, ...rest } = decodeLines(whole.subarray(0, length));

      assert.equal(values.length, 2, `cut at ${length}`);
      assert.deepEqual(
        rest,
        { length: good, headLength: head.length, torn: true, fault: undefined },
        `cut at ${length}`,
      );
    }
  });

  it('lose only the last one when a part of it never reached the disk', () => {
    const holed = Buffer.from(whole);
    holed.fill(0, whole.length - second.length + 4, whole.length - 1);

    const { values, torn } = decodeLines(holed);

    assert.deepEqual([values.length, torn], [2, true]);
  });

  it('are damaged when any byte of a line before the last is wrong', () => {
    // Without the newline before the last line, the two lines are one line, which is wrong, but the last one.
    for (let at = 0; at < head.length + first.length - 1; at += 1) {
      const rotten = Buffer.from(whole);
      rotten.writeUInt8(rotten.readUInt8(at) ^ 0x01, at);

      const { fault, torn } = decodeLines(rotten);

      assert.match(fault ?? 'no fault', /^line [12] does not match its checksum$/, `byte ${at}`);
      assert.equal(torn, false);
    }
  });

  it('are damaged when the first is incomplete, because a file gets its name after its first line is written', () => {
    assert.match(decodeLines(head.subarray(0, 10)).fault ?? '', /^line 1 /);
    assert.equal(decodeLines(Buffer.alloc(0)).fault, 'the file is empty');
  });
});
