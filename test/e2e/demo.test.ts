import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

const DEMO = join(import.meta.dirname, '..', 'demo', 'main.js');

interface Running {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<unknown[]>;
}

function startDemo(): Running {
  const child = spawn(process.execPath, ['--enable-source-maps', DEMO], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  return { child, output: () => text, ended: once(child, 'close') };
}

/** The network namespace and the port of a run, from its output. */
function placesIn(output: string): { netns: string; port: number } {
  const netns = /\/run\/netns\/l3af-test-[0-9a-f]{4}/.exec(output)?.[0];
  const port = /nats:\/\/127\.0\.0\.1:(\d+)/.exec(output)?.[1];
  assert.ok(netns !== undefined && port !== undefined, output);
  return { netns, port: Number(port) };
}

async function nothingListens(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port });
  return new Promise((resolve) => {
    socket.once('error', () => resolve(true));
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
  });
}

test('the demo runs to its end and leaves nothing behind', async () => {
  const demo = startDemo();

  const [code] = await demo.ended;

  assert.equal(code, 0, demo.output());
  assert.equal(demo.output().match(/^ {2}── \d/gm)?.length, 9, demo.output());
  assert.match(demo.output(), /in memory|datapath libbpf/);
  assert.doesNotMatch(demo.output(), /datapath memory/);
  const { netns, port } = placesIn(demo.output());
  assert.ok(!existsSync(netns));
  assert.ok(await nothingListens(port));
});

test('the demo cleans up when it is interrupted under traffic', async () => {
  const demo = startDemo();
  const patience = AbortSignal.timeout(60_000);
  while (!demo.output().includes('rate-limit    tc-count'))
    await once(demo.child.stdout!, 'data', { signal: patience });

  demo.child.kill('SIGINT');
  const [code] = await demo.ended;

  assert.equal(code, 130, demo.output());
  const { netns, port } = placesIn(demo.output());
  assert.ok(!existsSync(netns));
  assert.ok(await nothingListens(port));
});
