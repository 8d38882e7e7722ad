import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createTestbed, mountBpffs, type Testbed } from '../../support/testbed.js';
import { sendPackets, Traffic } from '../../support/traffic.js';

/*
 * The basis of the kernel tests and the demo: if this does not hold, their counts prove nothing.
 */

const PORT = 8080;

async function openTestbed(t: TestContext): Promise<Testbed> {
  const testbed = await createTestbed();
  t.after(() => testbed.close());
  return testbed;
}

function packetsIn({ iface }: Testbed): number {
  return Number(readFileSync(`/sys/class/net/${iface}/statistics/rx_packets`, 'utf8'));
}

test('exactly what is sent arrives', async (t) => {
  const testbed = await openTestbed(t);

  const sent = await sendPackets({ ...testbed, port: PORT, rate: 5000, count: 3000 });

  assert.equal(sent, 3000);
  assert.equal(packetsIn(testbed), 3000);
  assert.equal(await testbed.lost(), 0);
});

test('traffic without an end is stopped and counted', async (t) => {
  const testbed = await openTestbed(t);
  const traffic = new Traffic({ ...testbed, port: PORT, rate: 1000 });

  await traffic.start();
  while (packetsIn(testbed) < 100) await new Promise((resolve) => setImmediate(resolve));
  const sent = await traffic.stop();

  assert.ok(sent >= 100);
  assert.equal(packetsIn(testbed), sent);
});

test('a receiver in the namespace counts datagrams by their type of service', async (t) => {
  const testbed = await openTestbed(t);
  const receiver = await testbed.listen(PORT);
  const outgoing = { netns: `/proc/${process.pid}/ns/net`, address: testbed.peerAddress, rate: 1000, count: 200 };

  await sendPackets({ ...outgoing, port: PORT });
  await sendPackets({ ...outgoing, port: PORT + 1 });

  assert.deepEqual(await receiver.close(), { total: 200, byTos: { 0: 200 } });
});

test('the pair can be created again under its name', async (t) => {
  const testbed = await openTestbed(t);
  const indexOf = () => readFileSync(`/sys/class/net/${testbed.iface}/ifindex`, 'utf8');
  const before = indexOf();

  await testbed.recreate();

  assert.notEqual(indexOf(), before);
  await sendPackets({ ...testbed, port: PORT, rate: 1000, count: 10 });
  assert.equal(packetsIn(testbed), 10);
});

test('two testbeds have nothing in common', async (t) => {
  const [one, other] = [await openTestbed(t), await openTestbed(t)];

  await sendPackets({ ...one, port: PORT, rate: 1000, count: 10 });

  assert.equal(packetsIn(one), 10);
  assert.equal(packetsIn(other), 0);
});

test('closing removes everything', async () => {
  const testbed = await createTestbed();
  const bpffs = await mountBpffs();

  await testbed.close();
  await bpffs.unmount();

  assert.ok(!existsSync(testbed.netns));
  assert.ok(!(testbed.iface in networkInterfaces()));
  assert.ok(!existsSync(bpffs.path));
});

for (const ending of ["process.kill(process.pid, 'SIGTERM')", "throw new Error('not caught')", 'process.exit(3)']) {
  test(`nothing outlives a process that ends by ${ending}`, async () => {
    const script = `
      const { createTestbed, mountBpffs } = await import(${JSON.stringify(join(import.meta.dirname, '../../support/testbed.js'))});
      const testbed = await createTestbed();
      const bpffs = await mountBpffs();
      console.log(JSON.stringify([testbed.netns, bpffs.path]));
      setInterval(() => {}, 1000);
      ${ending};`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk;
    });

    const [code] = await once(child, 'close');

    assert.notEqual(code, 0);
    const places = JSON.parse(output) as string[];
    assert.deepEqual(
      places.map((place) => existsSync(place)),
      [false, false],
    );
  });
}
