import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { AgentProcess } from '../support/agent-process.js';
import { type BusBed, givenBusBed, onXdp } from '../support/bus-bed.js';
import { payloadProgram } from '../support/packages.js';
import { until } from '../support/until.js';

/*
 * A real agent, a real broker, and an artifact server that fails as long as a test needs.
 */

class Artifacts {
  readonly url: string;
  /** How requests are answered; undefined serves the file. */
  answer: ((response: ServerResponse) => void) | undefined = (response) => void response.writeHead(503).end();

  constructor(server: Server, repository: string) {
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('request', async ({ url = '' }, response) => {
      if (this.answer !== undefined) return this.answer(response);
      const bytes = await readFile(join(repository, decodeURIComponent(url))).catch(() => undefined);
      if (bytes === undefined) response.writeHead(404).end();
      else response.end(bytes);
    });
  }

  up(): void {
    this.answer = undefined;
  }
}

async function givenArtifacts({ dir, atEnd }: BusBed): Promise<Artifacts> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => {
    server.close();
    server.closeAllConnections();
  });
  return new Artifacts(server, join(dir, 'repository'));
}

/** An agent that knows the desired state, so that it handles the next command as usual. */
async function givenAgent(t: TestContext): Promise<{ bed: BusBed; artifacts: Artifacts; agent: AgentProcess }> {
  const bed = await givenBusBed(t);
  const artifacts = await givenArtifacts(bed);
  const agent = bed.agent({ repoUrl: artifacts.url });
  await agent.start();
  assert.equal((await bed.controller.send('deploy', [], { id: 'nothing' })).status, 'unchanged');
  return { bed, artifacts, agent };
}

function told(agent: AgentProcess, what: string): number {
  return agent.logs().filter(({ msg }) => msg === what).length;
}

const RETRY = 'transient fault; trying again';
const command = onXdp(payloadProgram('port-count', { seq_id: 1 }));

test('an agent that is stopped while it waits to retry a command ends, any number of times, and a later agent runs it', async (t) => {
  // given an agent that keeps retrying a command
  const { bed, artifacts, agent } = await givenAgent(t);
  await bed.controller.publish('add', command, { id: 'add-1' });
  let starting: Promise<void> = Promise.resolve();

  // when it and the next agents are stopped during the wait, more often than agents may die during a command
  for (let stops = 1; stops <= 5; stops += 1) {
    await until('the command to be tried again', () => told(agent, RETRY) >= stops);
    assert.deepEqual(await agent.stop(), { code: 0 });
    assert.deepEqual(await idsOf(bed), ['nothing'], 'there is no answer yet');
    if (stops === 5) artifacts.up();
    // An agent answers no requests while it works on a command.
    starting = agent.start().catch(() => undefined);
  }

  // then the last agent runs it
  assert.equal((await bed.controller.ackOf('add-1')).status, 'applied');
  await starting;
  await agent.stop();
  assert.deepEqual(await idsOf(bed), ['nothing', 'add-1']);
  assert.equal(told(agent, 'background task failed'), 0);
  assert.equal(told(agent, 'the command could not be handled'), 0);
});

test('an agent that is asked to stop during a fetch aborts the fetch', async (t) => {
  // given a command whose artifact is being fetched from a server that does not answer
  const { bed, artifacts, agent } = await givenAgent(t);
  const held: ServerResponse[] = [];
  artifacts.answer = (response) => void held.push(response);
  await bed.controller.publish('add', command, { id: 'add-1' });
  await until('the artifact to be asked for', () => held.length > 0);

  // when the agent is asked to stop, twice
  const ended = agent.stop();
  await until('the agent to stop', () => told(agent, 'stopping') > 0);
  await agent.kill('SIGTERM');

  // then it ends normally without an answer to the command, and the next agent runs it
  assert.deepEqual(await ended, { code: 0 });
  assert.equal(told(agent, 'stopped'), 1);
  assert.deepEqual([held.length, told(agent, RETRY)], [1, 0], 'no further attempt');
  assert.deepEqual(await idsOf(bed), ['nothing']);
  artifacts.up();
  await agent.start();
  assert.equal((await bed.controller.ackOf('add-1')).status, 'applied');
  assert.deepEqual(await idsOf(bed), ['nothing', 'add-1']);
});

test('an agent that is stopped while it catches up ends, and the next one catches up', async (t) => {
  // given a host without a record, whose backlog needs a package that cannot be fetched
  const bed = await givenBusBed(t);
  const artifacts = await givenArtifacts(bed);
  await bed.controller.createStreams();
  await bed.controller.publish('deploy', command, { id: 'deploy-1' });
  const agent = bed.agent({ repoUrl: artifacts.url });
  const starting = agent.start().catch((error: Error) => error.message);
  await until('the backlog to be tried again', () => told(agent, RETRY) > 0);

  // when it is stopped
  assert.deepEqual(await agent.stop(), { code: 0 });
  assert.match(String(await starting), /has ended at its start/);
  assert.deepEqual(await idsOf(bed), []);

  // then the next agent catches up
  artifacts.up();
  await agent.start();
  assert.equal((await bed.controller.ackOf('deploy-1')).status, 'applied');
  assert.deepEqual(await idsOf(bed), ['deploy-1']);
});

async function idsOf({ controller }: BusBed): Promise<string[]> {
  return (await controller.acks()).map(({ id }) => id);
}
