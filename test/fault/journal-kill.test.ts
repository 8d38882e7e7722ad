import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { it } from 'node:test';
import { Journal } from '../../src/store/journal.js';
import { commandKey, desiring, temporaryDir } from '../unit/store/samples.js';

const WRITER = join(import.meta.dirname, '..', 'unit', 'store', 'journal-writer.js');

/**
 * Runs a process that handles commands and kills it after some.
 *
 * @returns the last command that it reported as finished
 */
async function writeAndDie(dir: string, commands: number): Promise<number> {
  const writer = spawn(process.execPath, [WRITER, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  let lines = 0;
  writer.stdout.on('data', (chunk: Buffer) => {
    said += chunk;
    lines += chunk.filter((byte) => byte === 0x0a).length;
    if (lines >= commands) writer.kill('SIGKILL');
  });
  await once(writer, 'close');
  assert.equal(writer.signalCode, 'SIGKILL');
  return Number(said.slice(0, said.lastIndexOf('\n')).split('\n').at(-1));
}

it('a journal holds every command that a killed process had finished', async (t) => {
  const dir = await temporaryDir(t);
  for (const commands of [1, 2, 3, 50, 120, 121, 200]) {
    const said = await writeAndDie(dir, commands);

    const journal = new Journal({ dir });
    const report = await journal.open();
    t.after(() => journal.close());
    const found = journal.stream?.lastSeq ?? 0;
    assert.deepEqual([report.fresh, report.damaged], [false, undefined]);
    // The process may have been killed after it finished a command and before it reported it.
    assert.ok(found >= said, `said ${said}, found ${found}`);
    assert.equal(journal.generation, found);
    assert.deepEqual(journal.desired, desiring(`program-${found}`));
    assert.equal(journal.find(commandKey(found))?.status, 'applied');
    await journal.close();
  }
});
