import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Metrics } from '../../../src/telemetry/metrics.js';

const PROGRAM = { program: 'ratelimiting', direction: 'xdpingress', iface: 'eth1', address: '192.0.2.1' };

describe('OpenMetrics', () => {
  it("names a counter's family without _total, and omits the type of l3afd's counters, whose names have no _total", async () => {
    const metrics = new Metrics('web1');
    metrics.programStarted(PROGRAM);
    metrics.redelivered();

    const text = await metrics.text('openmetrics');

    assert.match(text, /^# TYPE l3af_agent_redeliveries counter\nl3af_agent_redeliveries_total 1$/m);
    assert.match(text, /^# TYPE l3afd_BPFStartCount unknown\nl3afd_BPFStartCount\{host="web1",.*\} 1$/m);
    assert.match(text, /^# TYPE l3afd_BPFStopCount unknown$/m);
    assert.doesNotMatch(text, /^# TYPE \S+(?<!_total)_total counter/m);
    assert.doesNotMatch(text, /\n\n/);
    assert.ok(text.endsWith('\n# EOF\n'));
  });

  it('has the same series as the format of Prometheus', async () => {
    const metrics = new Metrics('web1');
    metrics.start();
    metrics.commandFinished('deploy', 'applied', 0.2);

    const series = (text: string) => [...text.matchAll(/^(?!#)(\S+?)[{ ]/gm)].map(([, name]) => name);
    assert.deepEqual(series(await metrics.text('openmetrics')), series(await metrics.text()));
  });
});

describe('monitored maps', () => {
  it('have the labels from payloads, while a payload gives them', async () => {
    const metrics = new Metrics('web1');
    const sample = { ...PROGRAM, map: 'm', key: '0', field: '', aggregator: 'scalar', value: 1 };
    const shown = async () =>
      (await metrics.text())
        .match(/^l3afd_BPFMonitorMap\{.*$/gm)
        ?.map((line) => line.replace(/host=.*4_address="[^"]*",/, ''));

    metrics.setMonitored([
      { ...sample, labels: { team: 'edge' } },
      { ...sample, field: 'bytes', labels: {} },
    ]);
    assert.deepEqual(await shown(), [
      'l3afd_BPFMonitorMap{team="edge",map_name="m_0_scalar"} 1',
      'l3afd_BPFMonitorMap{map_name="m_0_bytes_scalar"} 1',
    ]);

    metrics.setMonitored([{ ...sample, labels: {} }]);
    assert.deepEqual(await shown(), ['l3afd_BPFMonitorMap{map_name="m_0_scalar"} 1']);
    assert.equal((await metrics.allStats()).filter(({ MetricName }) => MetricName === 'l3afd_BPFMonitorMap').length, 1);
  });
});
