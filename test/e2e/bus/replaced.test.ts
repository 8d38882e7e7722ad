import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import { Journal } from '../../../src/store/journal.js';
import type { AgentProcess } from '../../support/agent-process.js';
import { type BusBed, givenBusBed, namesOnXdp, onXdp } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';
import { until } from '../../support/until.js';

/*
 * Another broker replaces the agent's broker at the same address. It has never seen the host, or has other commands.
 * Its clock differs.
 */

const portCount = payloadProgram('port-count', { seq_id: 1 });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });
const rateLimit = payloadProgram('rate-limit', { seq_id: 3 });
const HOUR_MS = 3_600_000;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

function verdict({ id, status, code }: Acknowledgement): string {
  return code === undefined ? `${id} ${status}` : `${id} ${status} ${code}`;
}

/** Ids of the commands that were run, in order. */
function applied(agent: AgentProcess): string[] {
  return agent
    .logs()
    .filter(({ msg }) => msg === 'applying command')
    .map(({ op }) => String(op));
}

/** How often it has made the last of its streams. */
function streamsMade(agent: AgentProcess): number {
  return agent.logs().filter(({ msg, stream }) => msg === 'created the stream' && stream === 'KV_L3AF_HOSTS').length;
}

async function replaceServer({ server }: BusBed): Promise<void> {
  await server.kill('SIGKILL');
  await rm(server.storeDir, { recursive: true });
  await server.restart();
}

test('on a server without streams, the agent creates them again and answers the command that it was carrying out', async (t) => {
  // given an agent that carries out a command whose package arrives slowly
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const held: ServerResponse[] = [];
  let isUp = true;
  const packages = createServer(async ({ url = '' }, response) => {
    if (!isUp) return void held.push(response.writeHead(503));
    const bytes = await readFile(join(bed.dir, 'repository', decodeURIComponent(url))).catch(() => undefined);
    if (bytes === undefined) response.writeHead(404).end();
    else response.end(bytes);
  }).listen(0, '127.0.0.1');
  await once(packages, 'listening');
  bed.atEnd(() => {
    packages.close();
    packages.closeAllConnections();
  });
  const agent = bed.agent({ repoUrl: `http://127.0.0.1:${(packages.address() as AddressInfo).port}` });
  await agent.start();
  assert.equal((await controller.send('deploy', onXdp(portCount), { id: 'first' })).status, 'applied');
  isUp = false;
  await controller.publish('add', onXdp(portDrop), { id: 'in-hand' });
  await until('the package to be asked for', () => held.length > 0);

  // when the server is replaced meanwhile
  const madeBefore = streamsMade(agent);
  await replaceServer(bed);
  isUp = true;
  for (const response of held) response.end();

  // then the agent creates the streams. nats-server 2.9 crashes when somebody requests a message of a stream that it is
  // creating, so the test requests none before.
  await until('the streams to be made anew', () => streamsMade(agent) > madeBefore);
  // and the command is carried out and answered on the new server
  assert.equal(verdict(await controller.ackOf('in-hand')), 'in-hand applied');
  assert.match((await controller.untilEvent('rewind')).message, /created again/);
  // and deltas are refused until the next deploy
  assert.equal(
    verdict(await controller.send('add', onXdp(rateLimit), { id: 'delta' })),
    'delta rejected RESYNC_REQUIRED',
  );
  assert.equal(verdict(await controller.send('deploy', onXdp(rateLimit), { id: 'all' })), 'all applied');
  assert.equal(verdict(await controller.send('delete', namesOnXdp('rate-limit'), { id: 'none' })), 'none applied');
  assert.deepEqual(applied(agent), ['first', 'in-hand', 'all', 'none']);
});

test('when the clock of a new server is an hour behind, commands that it stores after the agent has connected are new', async (t) => {
  // given an agent whose record says that its last command was stored one hour in the future
  const bed = await givenBusBed(t);
  const { controller, stateDir } = bed;
  const agent = bed.agent();
  await agent.start();
  assert.equal((await controller.send('deploy', onXdp(portCount), { id: 'first' })).status, 'applied');
  await controller.untilSettled();
  await agent.stop();
  const journal = new Journal({ dir: stateDir, logger: SILENT });
  await journal.open();
  const storedAt = new Date(Date.now() + HOUR_MS).toISOString();
  await journal.moveStream({ ...journal.stream!, storedAt });
  await journal.close();

  // when another server takes its place and has commands for the host
  await replaceServer(bed);
  await controller.createStreams();
  await controller.publish('delete', namesOnXdp('port-count'), { id: 'perhaps-old' });
  await agent.start();

  // then the agent treats those as possibly old, and later ones as new
  await controller.untilEvent('rewind');
  assert.match(verdict(await controller.ackOf('perhaps-old')), /^perhaps-old (superseded|rejected) /);
  assert.equal(
    verdict(await controller.send('add', onXdp(portDrop), { id: 'delta' })),
    'delta rejected RESYNC_REQUIRED',
  );
  await agent.stop();
  await agent.start();
  assert.equal(verdict(await controller.send('deploy', onXdp(portDrop), { id: 'all' })), 'all applied');
  assert.equal(verdict(await controller.send('add', onXdp(rateLimit), { id: 'delta-2' })), 'delta-2 applied');
  assert.deepEqual(applied(agent), ['first', 'all', 'delta-2']);
});
