import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { MapArgs, MapValue } from '../../../src/domain/program.js';
import { ENDPOINT, RULE } from '../../contract/map-args.js';
import { type PayloadMonitoredMap, payloadProgram } from '../../support/packages.js';
import { run } from '../../support/tool.js';
import { bpftool, numberIn } from '../support/kernel.js';
import { eventually, PROBE_PORT, Stage } from '../support/stage.js';

/*
 * `monitor_maps` in commands, compared with the numbers in the kernel.
 */

const PROGRAM = '0.bpf_programs.xdp_ingress.0';

let stage: Stage;
before(async () => {
  const env = { L3AF_METRICS_ADDR: '127.0.0.1:0', L3AF_MONITOR_INTERVAL: '100ms', L3AF_METRICS_INTERVAL: '200ms' };
  stage = await Stage.open({
    host: 'monitoring',
    env: { ...env, L3AF_RECONCILE_INTERVAL: '1h' },
  });
});
after(() => stage.close());
afterEach(() => stage.deploy({ xdp_ingress: [] }));

const counting = (...monitor_maps: readonly PayloadMonitoredMap[]) => ({
  xdp_ingress: [payloadProgram('port-count', { monitor_maps })],
});
const policy = (map_args: readonly MapArgs[], monitor_maps: readonly PayloadMonitoredMap[]) => ({
  xdp_ingress: [payloadProgram('policy', { map_args, monitor_maps })],
});
const entry = (name: string, key: MapValue, value: MapValue): MapArgs => ({ name, args: [{ key, value }] });

/** The series of monitored maps as Prometheus reads them: the labels that distinguish them, to the value. */
async function monitored(...labels: readonly string[]): Promise<Record<string, number>> {
  const lines = (await metricsPage()).split('\n').filter((line) => line.startsWith('l3afd_BPFMonitorMap{'));
  return Object.fromEntries(
    lines.map((line) => {
      const names = ['map_name', ...labels].map(
        (label) => line.match(new RegExp(`[{,]${label}="((?:[^"\\\\]|\\\\.)*)"`))?.[1],
      );
      return [names.join(' '), Number(line.slice(line.lastIndexOf(' ')))];
    }),
  );
}

async function metricsPage(): Promise<string> {
  const told = stage.agent.logs().findLast(({ msg }) => msg === 'serving metrics and health');
  return (await fetch(`${String(told?.url)}/metrics`)).text();
}

describe('a monitored map', () => {
  test('is shown with the values in the kernel, and its series end with the program', async () => {
    const scalar = { name: 'packet_count', key: 0, aggregator: 'scalar' } as const;
    await stage.deploy(counting(scalar, { name: 'port_packets', key: PROBE_PORT, aggregator: 'scalar' }));

    await stage.receive(120, PROBE_PORT);

    const name = `port_packets_${PROBE_PORT}_scalar`;
    const shown = await eventually(monitored, (series) => series[name] === 120, 'not all packets are counted');
    const inKernel = (await numberIn(stage.xdpMap('port-count', '1.0', 'packet_count')))!;
    assert.ok(shown.packet_count_0_scalar! >= 120 && shown.packet_count_0_scalar! <= inKernel);

    await stage.deploy({ xdp_ingress: [] });
    await eventually(monitored, (series) => Object.keys(series).length === 0, 'series outlive their program');
  });

  test('is still shown after a command has failed, and so are the programs that run', async () => {
    const running = async () =>
      (await metricsPage()).split('\n').filter((line) => line.startsWith('l3afd_BPFRunning{'));
    await stage.deploy(counting({ name: 'packet_count', key: 0, aggregator: 'scalar' }));
    const before = await running();
    const other = { name: 'policy', monitor_maps: [{ name: 'endpoints', key: '*', aggregator: 'scalar' }] } as const;
    const failing = payloadProgram('policy', { ...other, map_args: [entry('no_such_map', 0, 1)] });

    assert.equal((await stage.deploy({ xdp_ingress: [failing] })).code, 'MAP_NOT_FOUND');

    assert.deepEqual(await running(), before);
    await stage.receive(40, PROBE_PORT);
    await eventually(monitored, (series) => (series.packet_count_0_scalar ?? 0) >= 40, 'it is not shown any more');
  });

  test('has a series for each existing key if all keys are requested', async () => {
    await stage.deploy(counting({ name: 'port_packets', key: '*', aggregator: 'scalar', labels: { team: 'edge' } }));

    await stage.receive(3, 1111);
    await stage.receive(5, 2222);

    const wanted = { 'port_packets_1111_scalar edge': 3, 'port_packets_2222_scalar edge': 5 };
    await eventually(
      () => monitored('team'),
      (series) => Object.entries(wanted).every(([name, value]) => series[name] === value),
      'a port is missing',
    );
  });

  test('is truncated if it has too many keys, and the truncation is counted', async () => {
    const args = Array.from({ length: 300 }, (_, port) => ({ key: port, value: 1 }));
    const monitor_maps = [{ name: 'port_packets', key: '*', aggregator: 'scalar' }] as const;
    const map_args = [{ name: 'port_packets', args }];
    await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { map_args, monitor_maps })] });

    const isCut = (page: string) => /^l3af_agent_monitor_truncations_total [1-9]/m.test(page);
    await eventually(metricsPage, isCut, 'nobody tells that keys are left out');
    assert.equal(Object.keys(await monitored()).length, 256);
    assert.equal(
      stage.agent.logs().filter(({ msg }) => msg === 'a monitored map has more keys than are read').length,
      1,
    );
  });

  test('can have structs as keys and values; the request names the field', async () => {
    const rules = { name: 'policy_rules', key: ENDPOINT, aggregator: 'scalar', field: 'limit.rate' } as const;
    await stage.deploy(policy([entry('policy_rules', ENDPOINT, RULE)], [rules, { ...rules, key: '*' }]));

    const rate = (RULE as { limit: { rate: string | number } }).limit.rate;
    const isThere = (series: Record<string, number>) => Object.keys(series).length >= 1;
    const series = await eventually(monitored, isThere, 'the rule is not read');
    assert.deepEqual(new Set(Object.values(series)), new Set([Number(rate)]));
    for (const name of Object.keys(series)) assert.match(name, /^policy_rules_\{.*\}_limit\.rate_scalar$/);
  });

  test('gets a missing key of a hash map created once with value 0, and keeps an existing key', async () => {
    await stage.deploy(counting());
    await stage.receive(20, 4243);
    await stage.deploy(
      counting(
        { name: 'port_packets', key: 4242, aggregator: 'scalar' },
        { name: 'port_packets', key: 4243, aggregator: 'scalar' },
      ),
    );
    await eventually(monitored, (series) => series.port_packets_4242_scalar === 0, 'no series for a missing key');
    await eventually(monitored, (series) => series.port_packets_4243_scalar === 20, 'what was counted is lost');
    const map = stage.xdpMap('port-count', '1.0', 'port_packets');
    const keysOf = async () => JSON.stringify(await bpftool<unknown[]>('map', 'dump', 'pinned', map));
    assert.match(await keysOf(), /"0x92","0x10"/);

    const before = await monitored();
    await run('bpftool', ['map', 'delete', 'pinned', map, 'key', '0x92', '0x10']);
    await stage.receive(5, 4243);
    await eventually(monitored, (series) => series.port_packets_4243_scalar === 25, 'nothing is counted any more');
    assert.equal((await monitored()).port_packets_4242_scalar, before.port_packets_4242_scalar);
    assert.doesNotMatch(await keysOf(), /"0x92","0x10"/);
  });

  test('is in the snapshot and on the bus too', async () => {
    await stage.deploy(counting({ name: 'packet_count', key: 0, aggregator: 'avg' }));
    await eventually(monitored, (series) => 'packet_count_0_avg' in series, 'no series');

    const seen: string[] = [];
    const subscription = stage.nats.subscribe(`l3af.metrics.${stage.host}`, {
      callback: (_error, { data }) => void seen.push(Buffer.from(data).toString()),
    });
    const message = await eventually(
      async () => seen.at(-1) ?? '',
      (text) => text.includes('l3afd_BPFMonitorMap'),
      'no metrics',
    );
    subscription.unsubscribe();
    assert.match(message, /l3af_agent_queue_wait_seconds_bucket/);

    const { IngressXDPBpfs } = await stage.fleet.request(stage.host, 'state', {});
    const { packet_count_0_avg } = IngressXDPBpfs[stage.bed.iface]![1]!.MetricsBpfMaps;
    const { Values, ...known } = packet_count_0_avg!;
    assert.deepEqual(known, { MapName: 'packet_count', Key: 0, Aggregator: 'avg', LastValue: Values.at(-1) });
    assert.ok(Values.length > 0 && Values.length <= 20);
  });

  test('keeps its time window when the program is loaded again with its maps', async () => {
    const rate = { name: 'packet_count', key: 0, aggregator: 'max-rate' } as const;
    await stage.deploy(counting(rate));
    await stage.receive(500, PROBE_PORT);
    await eventually(monitored, (series) => (series['packet_count_0_max-rate'] ?? 0) > 0, 'no rate');

    const again = [
      payloadProgram('port-drop', { seq_id: 1 }),
      payloadProgram('port-count', { seq_id: 2, monitor_maps: [rate] }),
    ];
    await stage.deploy({ xdp_ingress: again });

    assert.ok((await monitored())['packet_count_0_max-rate']! > 0);
  });

  for (const [what, asked, path] of [
    ['that the program does not have', { name: 'packets', key: 0 }, 'name'],
    ['with a key that it cannot have', { name: 'packet_count', key: 1 }, 'key'],
    ['with a key of another type', { name: 'port_packets', key: { port: 1 } }, 'key'],
    ['with a field that its values do not have', { name: 'packet_count', key: 0, field: 'packets' }, 'field'],
  ] as const) {
    test(`${what} is refused with the place, and nothing changes`, async () => {
      const monitor = { aggregator: 'scalar', ...asked } as const;
      const fresh = await stage.deploy(counting(monitor));
      assert.equal(fresh.status, 'failed');
      assert.equal(fresh.errors?.[0]?.path, `${PROGRAM}.monitor_maps.0.${path}`);
      assert.equal(await stage.chain(), undefined);

      await stage.deploy(counting());
      const before = await stage.kernel();
      const later = await stage.deploy(counting(monitor));
      assert.equal(later.errors?.[0]?.path, `${PROGRAM}.monitor_maps.0.${path}`);
      assert.deepEqual((await stage.kernel()).entries, before.entries);
    });
  }

  test('with structs as values is refused unless a field is named', async () => {
    const answer = await stage.deploy(policy([], [{ name: 'policy_rules', key: ENDPOINT, aggregator: 'scalar' }]));

    assert.equal(answer.errors?.[0]?.path, `${PROGRAM}.monitor_maps.0.field`);
    assert.match(answer.message ?? '', /not a number.*field: verdict, limit/);
  });
});

test('the kernel counts the runs of attached programs where run_stats is on', async () => {
  await stage.restart({ L3AF_RUN_STATS: 'true' });
  await stage.deploy(counting());
  await stage.receive(50, PROBE_PORT);

  const runs = /^l3af_agent_program_runs_total\{.*ebpf_program="xdp-root".*\} ([0-9]+)$/m;
  const page = await eventually(
    metricsPage,
    (text) => Number(runs.exec(text)?.[1] ?? 0) >= 50,
    'the runs are not shown',
  );
  assert.match(page, /^l3af_agent_program_run_seconds_total\{.*ebpf_program="xdp-root".*\} [0-9.e-]+$/m);
  await stage.restart();
});

describe('l3afd defect 22: wrong rates, zeroed counters, a counter that never counts, series never deleted', () => {
  test('earlier counts are unchanged when monitoring begins', async () => {
    await stage.deploy(counting());
    await stage.receive(70, PROBE_PORT);
    const before = (await numberIn(stage.xdpMap('port-count', '1.0', 'packet_count')))!;

    await stage.deploy(counting({ name: 'packet_count', key: 0, aggregator: 'max-rate' }));
    await stage.receive(10, PROBE_PORT);
    await eventually(monitored, (series) => 'packet_count_0_max-rate' in series, 'no rate');

    assert.ok((await numberIn(stage.xdpMap('port-count', '1.0', 'packet_count')))! >= before + 10);
  });

  test('l3afd_BPFUpdateCount and l3afd_BPFStopCount count, and a stopped program no longer runs', async () => {
    await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { version: '1.0' })] });
    await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { version: '2.0' })] });
    await stage.deploy({ xdp_ingress: [] });

    const page = await metricsPage();
    assert.match(page, /^l3afd_BPFUpdateCount\{.*ebpf_program="port-count".*\} [1-9]/m);
    assert.match(page, /^l3afd_BPFStopCount\{.*ebpf_program="port-count".*\} [1-9]/m);
    assert.doesNotMatch(page, /^l3afd_BPFRunning\{.*port-count/m);
  });
});

test('l3afd defect 23: what is read of maps has their own size, and per-CPU maps are summed', async () => {
  const cpus = (
    await bpftool<{ values: unknown[] }[]>('map', 'dump', 'pinned', await policyMap('policy_cpu_array'))
  )[0]!.values.length;
  const share = { aggregator: 'scalar', field: 'weight' } as const;
  await stage.deploy(
    policy(
      [entry('policy_cpu_array', 2, { weight: 9, bias: -1 }), entry('policy_cpu_hash', 53, { weight: 5, bias: -2 })],
      [
        { name: 'policy_cpu_array', key: 2, ...share },
        { name: 'policy_cpu_hash', key: 53, ...share, field: 'bias' },
        { name: 'policy_cpu_hash', key: '*', ...share },
      ],
    ),
  );

  const expected = {
    policy_cpu_array_2_weight_scalar: 9 * cpus,
    policy_cpu_hash_53_bias_scalar: -2 * cpus,
    policy_cpu_hash_53_weight_scalar: 5 * cpus,
  };
  await eventually(
    monitored,
    (series) => JSON.stringify(Object.entries(series).toSorted()) === JSON.stringify(Object.entries(expected)),
    'not the sums',
  );
});

async function policyMap(map: string): Promise<string> {
  await stage.deploy(policy([], []));
  return stage.xdpMap('policy', '1.0', map);
}
