import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { AgentProcess } from '../../support/agent-process.js';
import { payloadProgram } from '../../support/packages.js';
import { run } from '../../support/tool.js';
import { until, untilGiven } from '../../support/until.js';
import { PLATFORM, Stage } from '../support/stage.js';

/*
 * A bpffs belongs to one agent alone, and the agent cannot work without it.
 */

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

  await assert.rejects(
    second.start(),
    /STATE_DIR_LOCKED: Another agent already uses the bpffs \S+, process \d+; stop it/,
  );
});

test('an agent whose bpffs is unmounted ends by itself, and the next one restores everything', async () => {
  // given a running program
  const deployed = await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { seq_id: 1 })] });
  assert.equal(deployed.status, 'applied');

  // when the bpffs is unmounted
  // It is busy while the agent reads it.
  await untilGiven('it can be unmounted', () => run('umount', [stage.bpffs]));
  await until('the agent to end', () => stage.agent.pid === undefined);

  // then the agent has said why
  const fatal = stage.agent.logs().find(({ level }) => level === 'fatal');
  assert.match(JSON.stringify(fatal), /The bpffs at \S+ was unmounted or replaced under the agent/);

  // and the next agent mounts it, and the program runs again
  await stage.agent.start();
  const again = await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { seq_id: 1 })] });
  assert.equal(again.status, 'unchanged');
});
