import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { type BusBed, givenBusBed, IFACE, onXdp } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';

/*
 * A host has lost its state and boots before its package repository is up. It does not forget its desired programs.
 */

/** The bed's repository as a web server that is down until it is started. */
async function givenRepository({ dir, atEnd }: BusBed) {
  const server = createServer(async ({ url = '' }, response) => {
    const content = await readFile(join(dir, 'repository', decodeURIComponent(url))).catch(() => undefined);
    response.writeHead(content === undefined ? 404 : 200).end(content);
  });
  atEnd(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return {
    url: `http://127.0.0.1:${port}`,
    start: async () => {
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
    },
  };
}

test('when a host boots before its repository, its programs stay desired, and run once the repository is up', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const repository = await givenRepository(bed);
  await controller.createStreams();
  const deploy = await controller.publish('deploy', onXdp(payloadProgram('port-count', { seq_id: 1 })), { gen: 5 });

  await bed.agent({ repoUrl: repository.url, env: { L3AF_RECONCILE_INTERVAL: '1s' } }).start();

  const answer = await controller.ackOf(deploy.id);
  assert.deepEqual([answer.status, answer.code, answer.undone], ['failed', 'ARTIFACT_UNREACHABLE', true]);
  assert.match(answer.message ?? '', /stays desired and is tried again until it runs/);

  await repository.start();
  const event = await controller.untilEvent('drift-repaired');

  assert.match(event.message, new RegExp(`${IFACE}/xdpingress`));
  // A delta builds on the deploy, and its answer shows that the program of the deploy runs.
  const port = payloadProgram('port-drop', { seq_id: 2 });
  const added = await controller.send('add', onXdp(port), { gen: 6, prevGen: 5 });
  assert.deepEqual(
    added.programs.map(({ name, result }) => [name, result]),
    [
      ['port-count', 'unchanged'],
      ['port-drop', 'started'],
    ],
  );
  await controller.untilSettled();
});
