import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type LoadedObject, PrivateBpffs, u32 } from '../../support/bpftool.js';
import { builtObject } from '../../support/project.js';
import { noteMade } from '../../support/this-run.js';
import { run } from '../../support/tool.js';

/*
 * What BPF_PROG_TEST_RUN cannot show: real packets on a veth pair between two network namespaces.
 */

const SENDER = `l3af-native-tx-${process.pid}`;
const RECEIVER = `l3af-native-rx-${process.pid}`;
const RECEIVER_ADDRESS = '192.0.2.2';
const PROBES = 20;

const bpffs = new PrivateBpffs();

before(async () => {
  await bpffs.mount();
  for (const namespace of [SENDER, RECEIVER]) noteMade(namespace);
  await run('ip', ['netns', 'add', SENDER]);
  await run('ip', ['netns', 'add', RECEIVER]);
  await run('ip', ['-n', SENDER, 'link', 'add', 'out0', 'type', 'veth', 'peer', 'name', 'in0', 'netns', RECEIVER]);
  await run('ip', ['-n', SENDER, 'address', 'add', '192.0.2.1/24', 'dev', 'out0']);
  await run('ip', ['-n', RECEIVER, 'address', 'add', `${RECEIVER_ADDRESS}/24`, 'dev', 'in0']);
  await run('ip', ['-n', SENDER, 'link', 'set', 'out0', 'up']);
  await run('ip', ['-n', RECEIVER, 'link', 'set', 'in0', 'up']);
});

after(async () => {
  await run('ip', ['netns', 'del', SENDER]);
  await run('ip', ['netns', 'del', RECEIVER]);
  await bpffs.unmount();
});

async function load(t: TestContext, object: string): Promise<LoadedObject> {
  const loaded = await bpffs.load(builtObject(object), object.startsWith('xdp') ? 'xdp' : 'classifier');
  t.after(() => loaded.unload());
  return loaded;
}

async function loadMarker(t: TestContext, object: string, id: number): Promise<LoadedObject> {
  const loaded = await load(t, object);
  await loaded.write('mark_id', u32(0), u32(id));
  return loaded;
}

async function sendProbes(): Promise<void> {
  const script = `for i in $(seq ${PROBES}); do echo probe > /dev/udp/${RECEIVER_ADDRESS}/9999; done`;
  await run('ip', ['netns', 'exec', SENDER, 'bash', '-c', script]);
}

/** The paths that a marker has counted, after it has seen all probes. */
async function pathsAt(marker: LoadedObject): Promise<Record<string, number>> {
  const patience = AbortSignal.timeout(10_000);
  while ((await marker.counter('mark_seen')) < PROBES) {
    patience.throwIfAborted();
    await sleep(20);
  }
  const paths = await marker.entries('mark_paths');
  return Object.fromEntries(paths.map(({ key, value }) => [`0x${key.toString(16)}`, value]));
}

for (const mode of ['xdpdrv', 'xdpgeneric']) {
  test(`a trail crosses an XDP chain in mode ${mode}`, async (t) => {
    const root = await load(t, 'xdp_root');
    const [one, two] = [await loadMarker(t, 'xdp_mark', 1), await loadMarker(t, 'xdp_mark', 2)];
    await root.link('xdp_root_array', one.programPin('xdp_mark'));
    await one.link('mark_next', two.programPin('xdp_mark'));
    await run('ip', ['-n', RECEIVER, 'link', 'set', 'in0', mode, 'pinned', root.programPin('xdp_root')]);
    t.after(() => run('ip', ['-n', RECEIVER, 'link', 'set', 'in0', mode, 'off']));

    await sendProbes();

    assert.deepEqual(await pathsAt(two), { '0x102': PROBES });
  });
}

describe('with clsact filters', () => {
  beforeEach(async () => {
    await run('tc', ['-n', SENDER, 'qdisc', 'add', 'dev', 'out0', 'clsact']);
    await run('tc', ['-n', RECEIVER, 'qdisc', 'add', 'dev', 'in0', 'clsact']);
  });

  afterEach(async () => {
    await run('tc', ['-n', SENDER, 'qdisc', 'del', 'dev', 'out0', 'clsact']);
    await run('tc', ['-n', RECEIVER, 'qdisc', 'del', 'dev', 'in0', 'clsact']);
  });

  async function filter(namespace: string, device: string, direction: string, preference: number, pin: string) {
    const place = ['dev', device, direction, 'protocol', 'all', 'pref', String(preference)];
    await run('tc', ['-n', namespace, 'filter', 'add', ...place, 'bpf', 'direct-action', 'object-pinned', pin]);
  }

  test('a chain passes the packet to foreign filters behind it', async (t) => {
    const [root, ours] = [await load(t, 'tc_root'), await load(t, 'tc_count')];
    const theirs = await loadMarker(t, 'tc_mark', 7);
    await root.link('tc_ingress_root_array', ours.programPin('tc_count'));
    await filter(RECEIVER, 'in0', 'ingress', 1, root.programPin('tc_ingress_root'));
    await filter(RECEIVER, 'in0', 'ingress', 2, theirs.programPin('tc_mark'));

    await sendProbes();

    assert.deepEqual(await pathsAt(theirs), { '0x7': PROBES });
    assert.ok((await ours.counter('tc_packets')) >= PROBES);
  });

  test('a trail ends where the packet leaves the interface', async (t) => {
    const [sent, received] = [await loadMarker(t, 'tc_mark', 1), await loadMarker(t, 'tc_mark', 2)];
    await filter(SENDER, 'out0', 'egress', 1, sent.programPin('tc_mark'));
    await filter(RECEIVER, 'in0', 'ingress', 1, received.programPin('tc_mark'));

    await sendProbes();

    assert.deepEqual(await pathsAt(sent), { '0x1': PROBES });
    assert.deepEqual(await pathsAt(received), { '0x2': PROBES });
  });
});
