import assert from 'node:assert/strict';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { AgentProcess } from '../support/agent-process.js';
import { type BusBed, givenBusBed, onXdp } from '../support/bus-bed.js';
import { payloadProgram } from '../support/packages.js';
import { until } from '../support/until.js';

/*
 * A real agent whose state directory is removed while it runs.
 */

const first = onXdp(payloadProgram('port-count', { seq_id: 1 }));
const second = onXdp(payloadProgram('port-drop', { seq_id: 2 }));

/** An agent that has applied one command. It checks its host at the given interval. */
async function givenAgent(t: TestContext, reconcileInterval: string): Promise<{ bed: BusBed; agent: AgentProcess }> {
  const bed = await givenBusBed(t);
  const agent = bed.agent({ env: { L3AF_RECONCILE_INTERVAL: reconcileInterval } });
  await agent.start();
  assert.equal((await bed.controller.send('deploy', first, { id: 'c1' })).status, 'applied');
  return { bed, agent };
}

function lastWords(agent: AgentProcess): string {
  const fatal = agent.logs().filter(({ level }) => level === 'fatal');
  return fatal.map(({ err }) => (err as Error).message).join('\n');
}

async function untilEnded(agent: AgentProcess): Promise<void> {
  await until('the agent to end', () => agent.pid === undefined);
}

test('if the state directory is gone, the next agent runs the command, and it is answered once', async (t) => {
  // given an agent that only a command wakes up
  const { bed, agent } = await givenAgent(t, '1h');

  // when its state directory is removed, and a command arrives
  await rm(bed.stateDir, { recursive: true });
  await bed.controller.publish('add', second, { id: 'c2' });
  await untilEnded(agent);

  // then it reports this and ends with a failure, without an answer to the command
  assert.match(lastWords(agent), /^The state directory \S+ was removed or replaced under the agent/);
  assert.deepEqual(await agent.stop(), { code: 1 });
  assert.equal((await bed.controller.acks()).length, 1);

  // and the next agent runs the command
  await agent.start();
  assert.equal((await bed.controller.ackOf('c2')).status, 'applied');
  const acks = await bed.controller.acks();
  assert.equal(acks.filter(({ id }) => id === 'c2').length, 1);
});

test('an agent whose state directory was replaced ends by itself', async (t) => {
  const { bed, agent } = await givenAgent(t, '100ms');

  await rename(bed.stateDir, join(bed.dir, 'elsewhere'));
  await mkdir(bed.stateDir);
  await untilEnded(agent);

  assert.match(lastWords(agent), /^The state directory \S+ was removed or replaced under the agent/);
});

test('an agent whose journal was removed ends by itself', async (t) => {
  const { bed, agent } = await givenAgent(t, '100ms');

  await rm(join(bed.stateDir, 'journal'));
  await untilEnded(agent);

  assert.match(lastWords(agent), /^The journal \S+ was removed while the agent was running/);
});
