import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { dashboards, PROMETHEUS_DIR, queriesOf, rules } from '../../support/dashboards.js';
import { payloadProgram } from '../../support/packages.js';
import { Prometheus } from '../../support/prometheus.js';
import { numberIn } from '../support/kernel.js';
import { eventually, PROBE_PORT, Stage } from '../support/stage.js';

/*
 * A real Prometheus, with the shipped configuration and rules, scrapes a real agent under traffic.
 */

let stage: Stage;
let prometheus: Prometheus;
let text: string;

before(async () => {
  const env = { L3AF_METRICS_ADDR: '127.0.0.1:0', L3AF_MONITOR_INTERVAL: '200ms', L3AF_RECONCILE_INTERVAL: '1s' };
  stage = await Stage.open({ host: 'scraped', env });
  const told = stage.agent.logs().find(({ msg }) => msg === 'serving metrics and health');
  const url = String(told?.url);
  text = await readFile(join(PROMETHEUS_DIR, 'prometheus.yml'), 'utf8');
  const config = text
    .replaceAll('15s', '1s')
    .replace('127.0.0.1:8898', new URL(url).host)
    .replace('- l3af.rules.yml', `- ${join(PROMETHEUS_DIR, 'l3af.rules.yml')}`);
  prometheus = await Prometheus.start(config);
});
after(async () => {
  await prometheus?.stop();
  await stage?.close();
});

const latest = async (query: string) => Number((await prometheus.query(query))[0]?.value[1]);

test("l3afd's queries return the values in the kernel's maps, and nothing once the program is gone", async () => {
  const monitor_maps = [
    { name: 'packet_count', key: 0, aggregator: 'scalar' },
    { name: 'packet_count', key: 0, aggregator: 'max-rate' },
    { name: 'port_packets', key: PROBE_PORT, aggregator: 'scalar' },
  ] as const;
  await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { monitor_maps })] });
  const traffic = await stage.startTraffic(PROBE_PORT, 500);

  const rate = () => latest('l3afd_BPFMonitorMap{map_name="packet_count_0_max-rate"}');
  await eventually(rate, (value) => value > 100 && value < 5_000, 'no plausible rate');
  const sent = await traffic.stop();

  const ports = () => latest(`l3afd_BPFMonitorMap{map_name="port_packets_${PROBE_PORT}_scalar"}`);
  await eventually(ports, (value) => value === sent, `not the ${sent} packets that were sent`);
  const counted = async () => {
    const kernel = await numberIn(stage.xdpMap('port-count', '1.0', 'packet_count'));
    return { kernel, shown: await latest('l3afd_BPFMonitorMap{map_name="packet_count_0_scalar"}') };
  };
  await eventually(counted, ({ kernel, shown }) => kernel === shown, 'not what the map holds');

  const [running] = await prometheus.query('l3afd_BPFRunning{ebpf_program="port-count"}');
  const { instance: _instance, ...labels } = running!.metric;
  assert.deepEqual(labels, {
    __name__: 'l3afd_BPFRunning',
    job: 'l3af-agent',
    host: 'scraped',
    ebpf_program: 'port-count',
    direction: 'xdpingress',
    interface_name: stage.bed.iface,
    ipv4_address: stage.bed.address,
    version: '1.0',
  });
  assert.equal(await latest('l3afd_BPFStartCount{ebpf_program="port-count"}'), 1);

  await stage.deploy({ xdp_ingress: [] });
  const series = () => prometheus.query('{__name__=~"l3afd_BPFRunning|l3afd_BPFMonitorMap"}');
  await eventually(series, (left) => left.length === 0, 'series outlive their program');
});

test('every rule is loaded and evaluated, and no alert fires', async () => {
  const loaded = await eventually(
    () => prometheus.rules(),
    (found) => found.length > 0 && found.every(({ health }) => health === 'ok'),
    'a rule is not evaluated',
  );

  assert.equal(loaded.length, rules().length);
  assert.deepEqual(await prometheus.query('ALERTS{alertstate="firing"}'), []);
});

test('Prometheus accepts every query of the dashboards', async () => {
  const queries = dashboards().flatMap(queriesOf);
  assert.ok(queries.length > 30);
  for (const query of queries) await prometheus.query(query.replaceAll(/\$(host|instance)/g, 'x'));
});
