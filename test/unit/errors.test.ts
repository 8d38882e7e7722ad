import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AgentError, blamingDisk, faultsOf, machineError, machineFaultOf } from '../../src/errors.js';

function errnoError(code: string): Error {
  return Object.assign(new Error(`${code}: a call of the system`), { code });
}

const CODES = {
  ENOSPC: 'DISK_FULL',
  EDQUOT: 'DISK_FULL',
  EROFS: 'DISK_FAULT',
  EIO: 'DISK_FAULT',
  EMFILE: 'TOO_MANY_OPEN_FILES',
  ENFILE: 'TOO_MANY_OPEN_FILES',
  ENOMEM: 'OUT_OF_MEMORY',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
} as const;

describe('what the machine is to blame for', () => {
  for (const [errno, code] of Object.entries(CODES)) {
    test(`is told as ${code} for ${errno}, however deep it lies`, () => {
      const buried = new Error('outside', { cause: new Error('between', { cause: errnoError(errno) }) });
      assert.equal(machineFaultOf(buried)?.errno, errno);
      const [fault] = faultsOf(errnoError(errno));
      assert.equal(fault.code, code);
      assert.match(fault.message, new RegExp(`\\(${errno}: a call of the system\\); \\w+`));
    });
  }

  test('is nothing else', () => {
    const own = new Error('its own cause');
    own.cause = own;
    for (const error of [own, new TypeError('x is not a function'), errnoError('ENOENT'), 'a word', undefined]) {
      assert.equal(machineError(error), undefined);
      assert.equal(faultsOf(error)[0].code, 'INTERNAL');
    }
  });

  test('does not take the place of what was thrown on purpose', () => {
    const error = new AgentError('COMPANION_FAILED', 'It ended', { cause: errnoError('ENOMEM') });
    assert.equal(faultsOf(error)[0].code, 'COMPANION_FAILED');
  });

  test('is tried again where a disk is it, which may get room', () => {
    const full = blamingDisk('The cache', new Error('outside', { cause: errnoError('ENOSPC') }));
    assert.ok(full instanceof AgentError);
    assert.deepEqual(
      [full.code, full.message, full.transient],
      ['DISK_FULL', 'The cache cannot be written: ENOSPC; free space', true],
    );
    const other = errnoError('EMFILE');
    assert.equal(blamingDisk('The cache', other), other);
  });
});
