import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Acknowledgement } from '../../src/messages/ack.js';
import { Journal } from '../../src/store/journal.js';
import type { AgentProcess } from '../support/agent-process.js';
import { type BusBed, givenBusBed, namesOnXdp, onXdp } from '../support/bus-bed.js';
import { payloadProgram } from '../support/packages.js';
import { until } from '../support/until.js';

/*
 * Another broker is put in the place of the agent's, at the same address: it has never seen the host, or knows other commands, and its
 * clock is another one.
 */

const portCount = payloadProgram('port-count', { seq_id: 1 });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });
const rateLimit = payloadProgram('rate-limit', { seq_id: 3 });
const HOUR_MS = 3_600_000;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

function verdict({ id, status, code }: Acknowledgement): string {
  return code === undefined ? `${id} ${status}` : `${id} ${status} ${code}`;
}

/** Ids of the commands that were run, in their order. */
function applied(agent: AgentProcess): string[] {
  return agent
    .logs()
    .filter(({ msg }) => msg === 'applying command')
    .map(({ op }) => String(op));
}

async function replaceServer({ server }: BusBed): Promise<void> {
  await server.kill('SIGKILL');
  await rm(server.storeDir, { recursive: true });
  await server.restart();
}

test('a server without any streams gets them anew, and the answer of the command that was in hand', async (t) => {
  // given an agent with a command in hand, whose package comes slowly
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
  await replaceServer(bed);
  isUp = true;
  for (const response of held) response.end();

  // then the agent makes the streams; nats-server 2.9 dies of a request for a message of one that is in the making, so nobody asks before
  await until('the streams to be made anew', () => {
    const made = agent.logs().filter(({ msg, stream }) => msg === 'Created the stream' && stream === 'KV_L3AF_HOSTS');
    return made.length === 2;
  });
  // and the command is carried out and answered there
  assert.equal(verdict(await controller.ackOf('in-hand')), 'in-hand applied');
  assert.match((await controller.untilEvent('rewind')).message, /made anew/);
  // and what builds on it is refused until the next deploy
  assert.equal(
    verdict(await controller.send('add', onXdp(rateLimit), { id: 'delta' })),
    'delta rejected RESYNC_REQUIRED',
  );
  assert.equal(verdict(await controller.send('deploy', onXdp(rateLimit), { id: 'all' })), 'all applied');
  assert.equal(verdict(await controller.send('delete', namesOnXdp('rate-limit'), { id: 'none' })), 'none applied');
  assert.deepEqual(applied(agent), ['first', 'in-hand', 'all', 'none']);
});

test('a server whose clock is an hour behind is believed: what it stores after the agent has come is new', async (t) => {
  // given an agent that has answered commands of a server, as it thinks, an hour from now
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

  // when another server takes its place, which has commands for the host
  await replaceServer(bed);
  await controller.createStreams();
  await controller.publish('delete', namesOnXdp('port-count'), { id: 'perhaps-old' });
  await agent.start();

  // then those may be old, and what comes from now on is not
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
