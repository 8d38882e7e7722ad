import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { AgentError, type ErrorCode } from '../../src/errors.js';

/** An empty folder that is removed with the test. */
export async function scratchFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'l3af-packages-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

/** Asserts that something fails with a code and with a message from which a person can recognise the fault. */
export async function rejectsWith(promise: Promise<unknown>, code: ErrorCode, message: RegExp): Promise<AgentError> {
  const error = await promise.then(
    () => assert.fail(`expected ${code}, but it succeeded`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof AgentError, `expected an AgentError, got ${error}`);
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return error;
}
