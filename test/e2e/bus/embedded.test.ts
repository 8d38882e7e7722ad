import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { FleetClient } from '../../../src/client/fleet-client.js';
import type { AgentProcess } from '../../support/agent-process.js';
import { givenBusBed, HOST, onXdp } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';
import { withSystemTools } from '../../support/tool.js';
import { until } from '../../support/until.js';

/*
 * An agent whose embedded nats-server is not where the agent expects it. A separate network namespace needs root.
 */

const command = onXdp(payloadProgram('port-count', { seq_id: 1 }));

function lastWords(agent: AgentProcess): string {
  const fatal = agent.logs().filter(({ level }) => level === 'fatal');
  return fatal.map(({ err }) => (err as Error).message).join('\n');
}

async function send(agent: AgentProcess, id: string): Promise<string> {
  const client = await FleetClient.connect({ servers: [agent.natsUrl] });
  try {
    return (await client.send('deploy', HOST, command, { id })).acknowledgement.status;
  } finally {
    await client.close();
  }
}

test('an agent whose server returns at another address ends, and the next agent finds the server there', async (t) => {
  // given an agent with an embedded server; it has carried out a command
  const bed = await givenBusBed(t);
  const agent = bed.agent({ natsUrl: undefined });
  await agent.start();
  assert.equal(await send(agent, 'c1'), 'applied');
  const before = agent.natsUrl;

  // when the server dies, and another process takes its address before it is back
  const pid = Number(await readFile(join(bed.stateDir, 'nats', 'nats-server.pid'), 'utf8'));
  const squatter = createServer();
  bed.atEnd(() => squatter.close());
  // The agent stands still meanwhile: it would start the server again at once, at the same address.
  await agent.whileHalted(async () => {
    process.kill(pid, 'SIGKILL');
    await until('the address to be free', async () => {
      squatter.listen(Number(new URL(before).port), '127.0.0.1');
      return await Promise.race([once(squatter, 'listening'), once(squatter, 'error')]).then(() => squatter.listening);
    });
  });
  await until('the agent to end', () => agent.pid === undefined);

  // then the agent reports the new address, and the next agent works with the server
  assert.match(lastWords(agent), /^The embedded nats-server has moved from \S+ to \S+: this agent ends/);
  await agent.start();
  assert.notEqual(agent.natsUrl, before);
  assert.equal(await send(agent, 'c2'), 'unchanged');
  await agent.stop();
});

test('a server of the state directory that runs in another network namespace is not adopted, and no second one is started', async (t) => {
  // given a state directory whose server runs in another network namespace, as in a container
  const bed = await givenBusBed(t);
  const agent = bed.agent({ natsUrl: undefined });
  await agent.start();
  await agent.stop();
  const [config, pidFile] = ['conf', 'pid'].map((kind) => join(bed.stateDir, 'nats', `nats-server.${kind}`));
  const elsewhere = spawn('unshare', ['--net', 'nats-server', '-c', config!], {
    env: withSystemTools({ PATH: process.env.PATH }),
    stdio: 'ignore',
  });
  bed.atEnd(() => elsewhere.kill('SIGKILL'));
  await until('the server there', async () => {
    return (await readFile(pidFile!, 'utf8').catch(() => '')).trim() === String(elsewhere.pid);
  });

  // when an agent starts in our namespace
  await assert.rejects(agent.start(), /has ended at its start/);

  // then it explains in one sentence why it cannot; when the other server is gone, it starts a new one
  assert.match(lastWords(agent), /^The embedded nats-server of \S+ runs in another network namespace, as process \d+,/);
  assert.equal(elsewhere.exitCode, null);
  elsewhere.kill('SIGTERM');
  await once(elsewhere, 'exit');
  await agent.start();
  assert.equal(await send(agent, 'c1'), 'applied');
  await agent.stop();
});
