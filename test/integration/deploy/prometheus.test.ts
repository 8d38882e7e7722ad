import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { dashboards, familiesIn, PROMETHEUS_DIR, queriesOf, rules } from '../../support/dashboards.js';
import { runSync } from '../../support/tool.js';

const promtool = (...args: readonly string[]) => runSync('promtool', args, { cwd: PROMETHEUS_DIR });

describe('the configuration for Prometheus', () => {
  it('is accepted, with its rules', () => {
    assert.match(promtool('check', 'config', 'prometheus.yml'), new RegExp(`SUCCESS: ${rules().length} rules found`));
  });

  it('raises its alerts exactly when it should', () => {
    assert.match(promtool('test', 'rules', join(PROMETHEUS_DIR, 'l3af.rules.test.yml')), /SUCCESS/);
  });
});

describe('the dashboards for Grafana', () => {
  it('have a unique id for each dashboard and panel', () => {
    const all = dashboards();
    assert.deepEqual(all.map(({ uid }) => uid).toSorted(), ['l3af-fleet', 'l3af-host']);
    for (const { panels } of all) assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  });

  it('use only variables that they define', () => {
    for (const dashboard of dashboards()) {
      const defined = dashboard.templating.list.map(({ name }) => name);
      const used = queriesOf(dashboard).flatMap((query) => [...query.matchAll(/\$\{?(\w+)/g)].map(([, name]) => name!));
      assert.deepEqual(
        used.filter((name) => !defined.includes(name)),
        [],
      );
    }
  });
});

it('every metric in a dashboard or a rule is a metric of the agent', async () => {
  const metrics = new Metrics('web1');
  metrics.start();
  const families = [...(await metrics.text()).matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);

  const queries = [...dashboards().flatMap(queriesOf), ...rules().map(({ expr }) => expr)];
  const used = new Set(queries.flatMap(familiesIn));
  assert.ok(used.size > 20);
  assert.deepEqual(
    [...used].filter((name) => !families.includes(name)),
    [],
  );
});
