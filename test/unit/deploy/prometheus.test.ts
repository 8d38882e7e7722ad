import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { dashboards, familiesIn, PROMETHEUS_DIR, queriesOf, rules } from '../../support/dashboards.js';

const promtool = (...args: readonly string[]) =>
  execFileSync('promtool', args, { cwd: PROMETHEUS_DIR, encoding: 'utf8' });

describe('what is shipped for Prometheus', () => {
  it('is a configuration that it accepts, with its rules', () => {
    assert.match(promtool('check', 'config', 'prometheus.yml'), new RegExp(`SUCCESS: ${rules().length} rules found`));
  });

  it('raises its alerts when it should, and only then', () => {
    assert.match(promtool('test', 'rules', join(PROMETHEUS_DIR, 'l3af.rules.test.yml')), /SUCCESS/);
  });
});

describe('what is shipped for Grafana', () => {
  it('has one identity for each dashboard and each of its panels', () => {
    const all = dashboards();
    assert.deepEqual(all.map(({ uid }) => uid).toSorted(), ['l3af-fleet', 'l3af-host']);
    for (const { panels } of all) assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  });

  it('uses no variable that it does not define', () => {
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

it('every metric that a dashboard or a rule uses is one of the agent', async () => {
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
