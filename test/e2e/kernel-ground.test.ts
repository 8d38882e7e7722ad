import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { AgentProcess } from '../support/agent-process.js';
import { payloadProgram } from '../support/packages.js';
import { until } from '../support/until.js';
import { PLATFORM, Stage } from './support-stage.js';

/*
 * The bpffs is an agent's alone, and it cannot do without.
 */

const run = promisify(execFile);
let stage: Stage;

before(async () => {
  stage = await Stage.open({ host: 'ground1', env: { L3AF_RECONCILE_INTERVAL: '100ms' } });
});
after(() => stage.close());

test('a second agent with another name and state directory does not start on the same bpffs', async (t) => {
  const stateDir = join(tmpdir(), `l3af-second-${process.pid}`);
  t.after(() => rm(stateDir, { recursive: true, force: true }));
  const { natsUrl } = stage.agent;
  const second = new AgentProcess({ hostName: 'ground2', stateDir, bpffs: stage.bpffs, natsUrl, platform: PLATFORM });
  t.after(() => second.dispose());

  await assert.rejects(second.start(), /STATE_DIR_LOCKED: Another agent runs with the bpffs \S+; stop it/);
});

test('an agent whose bpffs is unmounted ends by itself, and the next one puts everything back', async () => {
  // given a program that runs
  const deployed = await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { seq_id: 1 })] });
  assert.equal(deployed.status, 'applied');

  // when the bpffs is unmounted
  await run('umount', [stage.bpffs]);
  await until('the agent to end', () => stage.agent.pid === undefined);

  // then the agent has said why
  const fatal = stage.agent.logs().find(({ level }) => level === 'fatal');
  assert.match(JSON.stringify(fatal), /The bpffs at \S+ was unmounted or replaced under the agent/);

  // and what it is started as next mounts it, and has the program run again
  await stage.agent.start();
  const again = await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { seq_id: 1 })] });
  assert.equal(again.status, 'unchanged');
});
