import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { AgentProcess } from '../support/agent-process.js';
import { type BusBed, givenBusBed, onXdp } from '../support/bus-bed.js';
import { payloadProgram } from '../support/packages.js';
import { until } from '../support/until.js';

/*
 * A real agent on a small disk of its own, which needs root. Nothing is attached: the datapath is the one in memory.
 */

const run = promisify(execFile);
const first = onXdp(payloadProgram('port-count', { seq_id: 1 }));
const second = onXdp(payloadProgram('port-drop', { seq_id: 2 }));
const RETRY = 'transient fault, trying again';

/** Takes all that is left of a disk, or all but so many bytes. */
async function fill(dir: string, but = 0): Promise<string> {
  const path = join(dir, 'fill');
  const { bavail, bsize } = await statfs(dir);
  const file = await open(path, 'w');
  await file.write(Buffer.alloc(bavail * bsize - but));
  await file.close();
  return path;
}

async function givenSmallDisk({ stateDir, atEnd }: BusBed): Promise<void> {
  await mkdir(stateDir, { recursive: true });
  await run('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'l3af-small', stateDir]);
  atEnd(() => run('umount', [stateDir]));
}

function told(agent: AgentProcess, what: string): readonly string[] {
  return agent
    .logs()
    .filter(({ msg }) => msg === what)
    .map((line) => JSON.stringify(line));
}

test('a command that the full disk of the package cache holds up is carried out when there is room', async (t) => {
  // given a disk with room for the journal, and for no package
  const bed = await givenBusBed(t);
  await givenSmallDisk(bed);
  const agent = bed.agent();
  await agent.start();
  assert.equal((await bed.controller.send('deploy', first, { id: 'c1' })).status, 'applied');
  const filler = await fill(bed.stateDir, 8192);

  // when a command asks for one
  await bed.controller.publish('add', second, { id: 'c2' });
  await until('the command to wait', () => told(agent, RETRY).length > 0);

  // then the log says what is to be done, and when that is done, the command is
  assert.match(told(agent, RETRY)[0]!, /The package cache \S+ cannot be written: ENOSPC; free space/);
  await rm(filler);
  assert.equal((await bed.controller.ackOf('c2')).status, 'applied');
});

test('a command that cannot be noted in the journal is carried out when there is room', async (t) => {
  // given a full disk
  const bed = await givenBusBed(t);
  await givenSmallDisk(bed);
  const agent = bed.agent();
  await agent.start();
  assert.equal((await bed.controller.send('deploy', first, { id: 'c1' })).status, 'applied');
  // The last page of the journal has room of its own: commands that change nothing use it up.
  const filler = await fill(bed.stateDir);
  const failed = () => told(agent, 'The command could not be handled');
  let sent = 1;
  while (failed().length === 0 && sent < 20) {
    sent += 1;
    await bed.controller.publish('add', first, { id: `c${sent}` });
    await until('the command to be seen', async () => {
      return failed().length > 0 || (await bed.controller.acks()).length === sent;
    });
  }

  // then the log says what is to be done, and when that is done, every command is answered once
  assert.match(failed()[0]!, /The journal \S+ cannot be written: ENOSPC[^"]*; free space/);
  await rm(filler);
  assert.equal((await bed.controller.ackOf(`c${sent}`)).status, 'unchanged');
  const ids = (await bed.controller.acks()).map(({ id }) => id);
  assert.deepEqual(
    ids,
    Array.from({ length: sent }, (_, index) => `c${index + 1}`),
  );
  await agent.stop();
});
