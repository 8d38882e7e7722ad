import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { readMaps } from '../../../src/datapath/libbpf/maps/read-maps.js';
import { type PayloadMonitoredMap, payloadProgram } from '../../support/packages.js';
import { selfLoaded, selfLoadingPackage } from '../../support/self-loading.js';
import { bpftool } from '../support/kernel.js';
import { eventually, PLATFORM, PROBE_PORT, Stage } from '../support/stage.js';

/*
 * `monitor_maps` of maps with unexpected content or shapes. No such map hides the numbers of the others.
 */

const NAME = 'xdp-mark-2';

/** Pins further maps beside the program's, each with one entry. */
const SCRIPT = `#!/bin/sh
set -eu
for word in "$@"; do
  case $word in --map-name=*) slot=\${word#*=} ;; --iface=*) iface=\${word#*=} ;; esac
done
names=\${slot%%/progs/*}/$iface/${NAME}/1_0
"$(dirname "$0")/program_loader" "$@" --once
map() { bpftool map create "$names/$1" type array key 4 value 8 entries 1 name "$1"; }
map largest
map lowest
bpftool map update pinned "$names/largest" key 0 0 0 0 value 255 255 255 255 255 255 255 255
exec sleep 1000
`;

let stage: Stage;
before(async () => {
  const packages = [selfLoadingPackage('xdp', NAME, { platform: PLATFORM }, { hostile: { script: SCRIPT } })];
  const env = { L3AF_METRICS_ADDR: '127.0.0.1:0', L3AF_MONITOR_INTERVAL: '100ms', L3AF_RECONCILE_INTERVAL: '1h' };
  stage = await Stage.open({ host: 'hostile-monitoring', packages, env });
});
after(() => stage.close());

const scalar = (name: string, rest: Partial<PayloadMonitoredMap> = {}): PayloadMonitoredMap => ({
  name,
  key: 0,
  aggregator: 'scalar',
  ...rest,
});

function deploy(monitor_maps: readonly PayloadMonitoredMap[]) {
  const hostile = { ...selfLoaded(payloadProgram(NAME, { seq_id: 2 })), cmd_start: 'hostile', monitor_maps };
  const count = payloadProgram('port-count', { seq_id: 3, monitor_maps: [scalar('packet_count')] });
  return stage.deploy({ xdp_ingress: [hostile, count] });
}

/** The lines of the metrics page about monitored maps. */
async function series(): Promise<readonly string[]> {
  const told = stage.agent.logs().findLast(({ msg }) => msg === 'serving metrics and health');
  const page = await (await fetch(`${String(told?.url)}/metrics`)).text();
  return page.split('\n').filter((line) => line.startsWith('l3afd_BPFMonitorMap{'));
}

const numberOf = (lines: readonly string[], name: string) => {
  const line = lines.find((other) => other.includes(`map_name="${name}"`));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
};

test('the greatest possible number does not prevent the others from being read', async () => {
  const answer = await deploy([scalar('largest'), scalar('largest', { aggregator: 'rate' }), scalar('lowest')]);
  assert.equal(answer.status, 'applied', answer.message);
  await stage.receive(50, PROBE_PORT);

  const lines = await eventually(
    series,
    (all) => (numberOf(all, 'packet_count_0_scalar') ?? 0) >= 50,
    'it stands still',
  );

  assert.deepEqual([numberOf(lines, 'largest_0_scalar'), numberOf(lines, 'lowest_0_scalar')], [2 ** 64, 0]);
  assert.ok(!stage.agent.logs().some(({ msg }) => msg === 'background task failed'));
});

test('a map whose entries cannot be read does not hide the others', async () => {
  const [queue, array] = [`${stage.bpffs}/queue`, `${stage.bpffs}/array`];
  await bpftool('map', 'create', queue, 'type', 'queue', 'value', '4', 'entries', '1', 'name', 'queue');
  await bpftool('map', 'create', array, 'type', 'array', 'key', '4', 'value', '4', 'entries', '2', 'name', 'array');
  const reads = await Promise.all(
    [queue, array].map(async (pin) => {
      const { id } = await bpftool<{ id: number }>('map', 'show', 'pinned', pin);
      return { pin, mapId: id, keys: { atMost: 5 } };
    }),
  );

  const [refused, found] = readMaps(reads);

  assert.match(refused?.failure?.message ?? '', /Cannot read the entries of the map queue/);
  assert.deepEqual([found?.keys.length, found?.more, found?.failure], [2, false, undefined]);
  await Promise.all([rm(queue), rm(array)]);
});

test('labels are shown as given, whatever they contain', async () => {
  const note = 'say "no"\\ to } of 1 2';
  const answer = await deploy([scalar('lowest', { labels: { note } })]);
  assert.equal(answer.status, 'unchanged', answer.message);

  const lines = await eventually(series, (all) => all.some((line) => line.includes('note=')), 'there is no series');

  assert.ok(
    lines.some((line) => line.includes('note="say \\"no\\"\\\\ to } of 1 2"')),
    lines.join('\n'),
  );
});

test('reading a map of great values takes no more memory than the map has', async () => {
  const pin = `${stage.bpffs}/great`;
  const bytes = 2 ** 25;
  await bpftool(
    'map',
    'create',
    pin,
    'type',
    'array',
    'key',
    '4',
    'value',
    `${bytes}`,
    'entries',
    '1',
    'name',
    'great',
  );
  const { id } = await bpftool<{ id: number }>('map', 'show', 'pinned', pin);

  const [reading] = readMaps([{ pin, mapId: id, keys: { atMost: 256 } }]);

  assert.equal(reading?.failure, undefined, reading?.failure?.message);
  assert.deepEqual([reading?.keys.length, reading?.values[0]?.length, reading?.more], [1, bytes, false]);
  await rm(pin);
});
