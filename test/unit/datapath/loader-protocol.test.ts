import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { plain, revive } from '../../../src/datapath/libbpf/objects/loader-protocol.js';
import { AgentError, faultsOf } from '../../../src/errors.js';

/** As a message arrives in the other process. */
function passedOn(error: unknown): Error {
  return revive(structuredClone(plain(error)));
}

describe('an error that is passed on to another process', () => {
  it('keeps what a fault consists of, and its cause', () => {
    const log = new Error('0: (b7) r0 = 0');
    const options = { path: '0.map_args', detail: 'the last lines', transient: true, cause: log };
    const error = new AgentError('VERIFIER_REJECTED', 'The verifier refused x', options);

    const revived = passedOn(error);

    assert.ok(revived instanceof AgentError);
    assert.deepEqual(faultsOf(revived), faultsOf(error));
    assert.equal(revived.transient, true);
    assert.equal((revived.cause as Error).message, log.message);
    assert.equal(revived.stack, error.stack);
  });

  it('has no field that it did not have', () => {
    const [fault] = faultsOf(passedOn(new AgentError('OBJECT_INVALID', 'no object')));
    assert.deepEqual(fault, { code: 'OBJECT_INVALID', message: 'no object' });
  });

  it('is a fault of the machine if it was one', () => {
    const error = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    assert.equal(faultsOf(passedOn(error))[0].code, 'DISK_FULL');
  });

  it('is INTERNAL for a defect', () => {
    const revived = passedOn(new TypeError('x is undefined'));
    assert.equal(faultsOf(revived)[0].code, 'INTERNAL');
    assert.equal(passedOn('a word').message, 'a word');
  });

  it('ends a chain of causes that is a cycle', () => {
    const error = new Error('a');
    error.cause = error;
    let depth = 0;
    for (let at: unknown = passedOn(error); at instanceof Error; at = at.cause) depth += 1;
    assert.ok(depth > 1 && depth < 20, String(depth));
  });
});
