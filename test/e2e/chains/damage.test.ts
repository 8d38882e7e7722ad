import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { payloadProgram } from '../../support/packages.js';
import { programIdsOf } from '../support/kernel.js';
import { Stage } from '../support/stage.js';

/*
 * A damaged journal: the kernel's state and the command stream together have everything that the agent needs.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'damaged' });
});
after(() => stage.close());

test('with a damaged journal the agent recovers from the kernel and the stream, and loses nothing', async () => {
  await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { seq_id: 1 })] });
  await stage.add({ xdp_ingress: [payloadProgram('rate-limit', { seq_id: 3 })] });
  const standing = programIdsOf(await stage.chain());
  await stage.agent.kill('SIGKILL');
  await spoil(`${stage.stateDir}/journal`);

  await stage.agent.start();

  assert.deepEqual(programIdsOf(await stage.chain()), standing, 'nothing was loaded again');
  const setAside = (await readdir(stage.stateDir)).filter((name) => name.startsWith('journal.damaged-'));
  assert.equal(setAside.length, 1, 'the damaged journal is kept for whoever wants to know');
  const loud = stage.agent.logs().filter(({ level, msg }) => level === 'error' && String(msg).includes('damaged'));
  assert.equal(loud.length, 1);
  const answer = await stage.add({ xdp_ingress: [payloadProgram('port-drop', { seq_id: 2 })] });
  assert.equal(answer.status, 'applied', 'a delta finds what it builds on');
  const { programs } = await stage.fleet.programs('damaged');
  assert.deepEqual(
    programs.map(({ name }) => name),
    ['port-count', 'port-drop', 'rate-limit'],
  );
});

/** Flips a byte of the second line. A fault in the last line would look like a write that a crash cut short. */
async function spoil(path: string): Promise<void> {
  const bytes = await readFile(path);
  const at = bytes.indexOf('\n') + 20;
  bytes[at] = bytes[at]! ^ 0xff;
  await writeFile(path, bytes);
}
