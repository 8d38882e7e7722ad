import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { givenBusBed, onXdp } from '../../support/bus-bed.js';
import { shell } from '../../support/l3afctl.js';
import { payloadProgram } from '../../support/packages.js';

/*
 * Packages travel over the bus from the folder of their builder to a host. The host runs only signed packages.
 */

const portCount = payloadProgram('port-count', { seq_id: 1 });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });

test('a host fetches signed packages from the object store, and refuses unsigned ones and ones with another digest', async (t) => {
  // given two packages in the object store, one of them signed, and an agent that requires signatures
  const { agent, controller, dir, repoUrl, server } = await givenBusBed(t);
  const key = join(dir, 'release.key');
  const options = { natsUrl: server.url, cwd: fileURLToPath(repoUrl) };
  for (const words of [
    `keygen ${key}`,
    `sign port-count --repo . --key ${key}`,
    'push port-count port-drop --repo .',
  ]) {
    const { code, error } = await shell(`l3afctl package ${words}`, options);
    assert.equal(code, 0, error);
  }
  const env = { L3AF_SIGNATURE_POLICY: 'required', L3AF_TRUSTED_KEYS: `${key}.pub` };
  await agent({ repoUrl: 'nats://', env }).start();

  // when commands request each of them
  const signed = await controller.send('deploy', onXdp(portCount));
  const unsigned = await controller.send('deploy', onXdp(portCount, portDrop));
  const pinned = { ...portCount, sha256: '0'.repeat(64) };
  const another = await controller.send('deploy', onXdp(pinned));

  // then the signed one runs and continues to run, and the others are refused with the right code
  assert.deepEqual([signed.status, signed.errors], ['applied', []]);
  assert.deepEqual([unsigned.status, unsigned.code], ['failed', 'SIGNATURE_MISSING']);
  assert.deepEqual([another.status, another.code], ['failed', 'DIGEST_MISMATCH']);
  const again = await controller.send('deploy', onXdp(portCount));
  assert.equal(again.status, 'unchanged');
});
