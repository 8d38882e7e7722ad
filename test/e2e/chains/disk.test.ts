import assert from 'node:assert/strict';
import { mkdir, open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { AgentProcess } from '../../support/agent-process.js';
import { type BusBed, givenBusBed, onXdp } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';
import { run } from '../../support/tool.js';
import { until } from '../../support/until.js';

/*
 * A real agent on a small disk of its own, which needs root. The datapath is the one in memory: nothing is attached.
 */

const first = onXdp(payloadProgram('port-count', { seq_id: 1 }));
const second = onXdp(payloadProgram('port-drop', { seq_id: 2 }));
const RETRY = 'transient fault; trying again';

/** Uses up the free space of a disk, except for the given number of bytes. */
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
  await run('mount', ['-t', 'tmpfs', '-o', 'size=512k,mode=0700', 'l3af-small', stateDir]);
  atEnd(() => run('umount', [stateDir]));
}

function told(agent: AgentProcess, what: string): readonly string[] {
  return agent
    .logs()
    .filter(({ msg }) => msg === what)
    .map((line) => JSON.stringify(line));
}

test('a command that waits for space in the package cache is carried out when there is space', async (t) => {
  // given a disk with space for the journal, but not for a package
  const bed = await givenBusBed(t);
  await givenSmallDisk(bed);
  const agent = bed.agent();
  await agent.start();
  assert.equal((await bed.controller.send('deploy', first, { id: 'c1' })).status, 'applied');
  const filler = await fill(bed.stateDir, 8192);

  // when a command needs a package
  await bed.controller.publish('add', second, { id: 'c2' });
  await until('the command to wait', () => told(agent, RETRY).length > 0);

  // then the log says what to do, and when that is done, the command is carried out
  assert.match(told(agent, RETRY)[0]!, /The package cache \S+ cannot be written: ENOSPC; free space/);
  await rm(filler);
  assert.equal((await bed.controller.ackOf('c2')).status, 'applied');
});

test('a command that cannot be written to the journal is carried out when there is space', async (t) => {
  // given a full disk
  const bed = await givenBusBed(t);
  await givenSmallDisk(bed);
  const agent = bed.agent();
  await agent.start();
  assert.equal((await bed.controller.send('deploy', first, { id: 'c1' })).status, 'applied');
  // The last page of the journal still has space: commands that change nothing use it up.
  const filler = await fill(bed.stateDir);
  const failed = () => told(agent, 'the command could not be handled');
  let sent = 1;
  while (failed().length === 0 && sent < 20) {
    sent += 1;
    await bed.controller.publish('add', first, { id: `c${sent}` });
    await until('the command to be seen', async () => {
      return failed().length > 0 || (await bed.controller.acks()).length === sent;
    });
  }

  // then the log says what to do, and when that is done, every command is answered once
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
