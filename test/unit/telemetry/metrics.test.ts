import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { Metrics, type ProgramLabels, type RunningProgram } from '../../../src/telemetry/metrics.js';

const RATELIMIT: ProgramLabels = {
  program: 'ratelimiting',
  direction: 'xdpingress',
  iface: 'eth1',
  address: '192.0.2.1',
};
const MIRROR: ProgramLabels = { program: 'mirror', direction: 'egress', iface: 'eth2', address: '192.0.2.2' };
const SERIES = 'ebpf_program="ratelimiting",direction="xdpingress",interface_name="eth1",ipv4_address="192.0.2.1"';

let metrics: Metrics;
/** Seconds since 1970. */
let now: number;

beforeEach(() => {
  now = 1_000;
  metrics = new Metrics('web1', () => now * 1_000);
});

/** The lines of one metric, without its comments. */
async function linesOf(name: string): Promise<string[]> {
  const text = await metrics.text();
  return text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
}

function running(labels: ProgramLabels, version = '1.0'): RunningProgram {
  return { ...labels, version };
}

describe("l3afd's metrics", () => {
  const counters: [name: string, count: (labels: ProgramLabels) => void][] = [
    ['l3afd_BPFStartCount', (labels) => metrics.programStarted(labels)],
    ['l3afd_BPFStopCount', (labels) => metrics.programStopped(labels)],
    ['l3afd_BPFUpdateCount', (labels) => metrics.programUpdated(labels)],
    ['l3afd_BPFUpdateFailedCount', (labels) => metrics.updateFailed(labels)],
    ['l3afd_BPFDeployFailedCount', (labels) => metrics.deployFailed(labels)],
  ];
  for (const [name, count] of counters) {
    it(`counts ${name} per program, hook and address`, async () => {
      count(RATELIMIT);
      count(RATELIMIT);
      count(MIRROR);

      const [ratelimit, mirror, ...others] = await linesOf(name);
      assert.equal(ratelimit, `${name}{host="web1",${SERIES}} 2`);
      assert.match(mirror!, /ebpf_program="mirror".* 1$/);
      assert.deepEqual(others, []);
      assert.match(await metrics.text(), new RegExp(`^# TYPE ${name} counter$`, 'm'));
    });
  }

  it('shows what runs as 1, with its version, and since when', async () => {
    metrics.setRunning([running(RATELIMIT)]);

    assert.deepEqual(await linesOf('l3afd_BPFRunning'), [`l3afd_BPFRunning{host="web1",${SERIES},version="1.0"} 1`]);
    assert.deepEqual(await linesOf('l3afd_BPFStartTime'), [`l3afd_BPFStartTime{host="web1",${SERIES}} 1000`]);
    assert.match(await metrics.text(), /^# TYPE l3afd_BPFRunning gauge$/m);
    assert.match(await metrics.text(), /^# TYPE l3afd_BPFStartTime gauge$/m);
  });

  it('shows a program as 0 while its companion is given up, whatever was told first', async () => {
    const values = async () => (await linesOf('l3afd_BPFRunning')).map((line) => line.split(' ').at(-1));
    metrics.setRunning([running(RATELIMIT), running(MIRROR)]);
    metrics.setCompanions([
      { ...RATELIMIT, condition: 'given-up' },
      { ...MIRROR, condition: 'waiting' },
    ]);
    assert.deepEqual(await values(), ['0', '1']);
    metrics.setRunning([running(RATELIMIT), running(MIRROR)]);
    assert.deepEqual(await values(), ['0', '1']);
    metrics.setCompanions([{ ...RATELIMIT, condition: 'running' }]);
    assert.deepEqual(await values(), ['1', '1']);
  });

  it('ends the series of a program that has stopped and keeps the start of one that stays', async () => {
    metrics.setRunning([running(RATELIMIT), running(MIRROR)]);
    now = 2_000;
    metrics.setRunning([running(RATELIMIT)]);

    assert.equal((await linesOf('l3afd_BPFRunning')).length, 1);
    assert.deepEqual(await linesOf('l3afd_BPFStartTime'), [`l3afd_BPFStartTime{host="web1",${SERIES}} 1000`]);
  });

  it('treats another version, and a program that runs again, as a new start', async () => {
    metrics.setRunning([running(RATELIMIT, '1.0')]);
    now = 2_000;
    metrics.setRunning([running(RATELIMIT, '2.0')]);
    assert.deepEqual(await linesOf('l3afd_BPFRunning'), [`l3afd_BPFRunning{host="web1",${SERIES},version="2.0"} 1`]);
    assert.deepEqual(await linesOf('l3afd_BPFStartTime'), [`l3afd_BPFStartTime{host="web1",${SERIES}} 2000`]);

    metrics.setRunning([]);
    assert.deepEqual(await linesOf('l3afd_BPFStartTime'), []);
    now = 3_000;
    metrics.setRunning([running(RATELIMIT, '2.0')]);
    assert.deepEqual(await linesOf('l3afd_BPFStartTime'), [`l3afd_BPFStartTime{host="web1",${SERIES}} 3000`]);
  });

  it('uses a known start time', async () => {
    metrics.setRunning([{ ...running(RATELIMIT), startedAt: new Date(500_000) }]);
    assert.deepEqual(await linesOf('l3afd_BPFStartTime'), [`l3afd_BPFStartTime{host="web1",${SERIES}} 500`]);
  });

  it('shows monitored maps as <map>_<key>_<aggregator>, and only those read last', async () => {
    metrics.setMonitored([
      { ...RATELIMIT, map: 'rl_drop_count_map', key: '0', field: '', labels: {}, aggregator: 'scalar', value: 12 },
      { ...MIRROR, map: 'mirrored', key: '1', field: '', labels: {}, aggregator: 'max-rate', value: 0.5 },
    ]);
    assert.equal((await linesOf('l3afd_BPFMonitorMap')).length, 2);

    metrics.setMonitored([
      { ...RATELIMIT, map: 'rl_drop_count_map', key: '0', field: '', labels: {}, aggregator: 'scalar', value: 13 },
    ]);
    assert.deepEqual(await linesOf('l3afd_BPFMonitorMap'), [
      `l3afd_BPFMonitorMap{host="web1",${SERIES},map_name="rl_drop_count_map_0_scalar"} 13`,
    ]);
  });

  it("are exactly a snapshot's AllStats, with the numbers of Prometheus' metric types", async () => {
    metrics.start();
    metrics.programStarted(RATELIMIT);
    metrics.setRunning([running(RATELIMIT)]);
    metrics.commandFinished('deploy', 'applied', 0.1);

    const labels = [
      { Name: 'direction', Value: 'xdpingress' },
      { Name: 'ebpf_program', Value: 'ratelimiting' },
      { Name: 'host', Value: 'web1' },
      { Name: 'interface_name', Value: 'eth1' },
      { Name: 'ipv4_address', Value: '192.0.2.1' },
    ];
    assert.deepEqual(await metrics.allStats(), [
      { MetricName: 'l3afd_BPFStartCount', Labels: labels, Value: 1, Type: 0 },
      { MetricName: 'l3afd_BPFRunning', Labels: [...labels, { Name: 'version', Value: '1.0' }], Value: 1, Type: 1 },
      { MetricName: 'l3afd_BPFStartTime', Labels: labels, Value: 1000, Type: 1 },
    ]);
  });
});

describe("the agent's own metrics", () => {
  it('count commands by verb and result, whatever verb comes from outside', async () => {
    metrics.commandFinished('deploy', 'applied', 0.2);
    metrics.commandFinished('deploy', 'applied', 0.02);
    metrics.commandFinished('drop"all', 'rejected', 0);

    assert.deepEqual(await linesOf('l3af_agent_commands_total'), [
      'l3af_agent_commands_total{verb="deploy",result="applied"} 2',
      'l3af_agent_commands_total{verb="other",result="rejected"} 1',
    ]);
    assert.deepEqual(await linesOf('l3af_agent_apply_duration_seconds_count'), [
      'l3af_agent_apply_duration_seconds_count{verb="deploy"} 2',
      'l3af_agent_apply_duration_seconds_count{verb="other"} 1',
    ]);
  });

  it('show queue, broker, outbox, redeliveries and reconciliations', async () => {
    metrics.setQueueDepth(3);
    metrics.commandWaited(0.25);
    metrics.setBrokerConnected(true);
    metrics.setOutboxPending(2);
    metrics.redelivered();
    metrics.reconciled('repaired');
    now = 2_000;
    metrics.reconciled('failed');

    assert.deepEqual(await linesOf('l3af_agent_queue_depth'), ['l3af_agent_queue_depth 3']);
    assert.deepEqual(await linesOf('l3af_agent_queue_wait_seconds_sum'), ['l3af_agent_queue_wait_seconds_sum 0.25']);
    assert.deepEqual(await linesOf('l3af_agent_broker_connected'), ['l3af_agent_broker_connected 1']);
    assert.deepEqual(await linesOf('l3af_agent_outbox_pending'), ['l3af_agent_outbox_pending 2']);
    assert.deepEqual(await linesOf('l3af_agent_redeliveries_total'), ['l3af_agent_redeliveries_total 1']);
    assert.deepEqual(await linesOf('l3af_agent_reconcile_total'), [
      'l3af_agent_reconcile_total{result="repaired"} 1',
      'l3af_agent_reconcile_total{result="failed"} 1',
    ]);
    assert.deepEqual(await linesOf('l3af_agent_last_reconcile_success_timestamp_seconds'), [
      'l3af_agent_last_reconcile_success_timestamp_seconds 1000',
    ]);
  });

  it('measure the process from the start on', async () => {
    assert.deepEqual(await linesOf('l3af_agent_process_resident_memory_bytes'), []);
    metrics.start();
    assert.equal((await linesOf('l3af_agent_process_resident_memory_bytes')).length, 1);
    assert.equal((await linesOf('l3af_agent_nodejs_eventloop_lag_seconds')).length, 1);
  });

  it('belong to one agent: two in one process share nothing', async () => {
    new Metrics('web2').redelivered();
    assert.deepEqual(await linesOf('l3af_agent_redeliveries_total'), ['l3af_agent_redeliveries_total 0']);
  });
});
