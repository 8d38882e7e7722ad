import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { type DesiredState, desiredPlaces } from '../../../src/domain/desired.js';
import { type ProgramPayload, toProgram } from '../../../src/domain/program.js';
import { Journal } from '../../../src/store/journal.js';
import { PROJECT_ROOT } from '../../support/project.js';
import { commandKey, temporaryDir } from './samples.js';

/*
 * A recorded journal, from when payload, domain and journal had three separate forms. It has every field of a program.
 * It must never be recorded again: agents must read the journals of their predecessors.
 */

const RECORDED = join(PROJECT_ROOT, 'test/unit/store/recorded-journal.txt');

async function openRecorded(t: TestContext): Promise<{ journal: Journal; file: string }> {
  const dir = await temporaryDir(t);
  const file = join(dir, 'journal');
  await copyFile(RECORDED, file);
  const journal = new Journal({ dir });
  t.after(() => journal.close());
  assert.deepEqual(await journal.open(), { fresh: false, truncatedTail: false });
  return { journal, file };
}

/** The changes in a line. */
const changesIn = (line: string) => JSON.parse(line.slice(line.indexOf(' ') + 1));

/** The desired state in the last line that has one. */
async function lastDesired(file: string): Promise<DesiredState> {
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n').slice(1);
  return lines.map(changesIn).findLast(([change]) => change.op === 'desired')[0].desired;
}

describe('a journal of an earlier build', () => {
  it('is read completely', async (t) => {
    const { journal } = await openRecorded(t);

    assert.equal(journal.instanceId, 'cfa1b74a-f1df-4924-bfe8-9144f2b80737');
    assert.deepEqual(journal.desired, await lastDesired(RECORDED));
    assert.equal(journal.generation, 5);
    assert.equal(journal.awaitingDeploy, 'The stream was put back');
    assert.deepEqual(journal.stream, { created: '2025-01-03T00:00:00Z', lastSeq: 0, storedAt: '', newAfter: 7 });
    assert.deepEqual(
      [1, 2, 3].map((seq) => journal.find(commandKey(seq))?.status),
      ['applied', 'applied', undefined],
    );
    assert.deepEqual(
      journal.pending().map(({ id }) => id),
      ['web1:command-2'],
    );
  });

  it('is continued in the same form', async (t) => {
    const { journal, file } = await openRecorded(t);
    const desired = journal.desired;
    assert.ok(desired !== null);
    await journal.setDesired(desired);

    assert.deepEqual(await lastDesired(file), await lastDesired(RECORDED));
  });

  it('has the programs that the present code makes from their payloads', async (t) => {
    const { journal } = await openRecorded(t);
    const programs = desiredPlaces(journal.desired!).flatMap(({ programs }) => programs);

    assert.equal(programs.length, 5);
    for (const program of programs) {
      assert.deepEqual(toProgram(program.payload as unknown as ProgramPayload, program.path), program);
    }
  });
});
