import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { PROJECT_ROOT } from './project.js';

/*
 * The shipped files for Prometheus and Grafana, as these programs read them.
 */

export const PROMETHEUS_DIR = join(PROJECT_ROOT, 'deploy/prometheus');
const GRAFANA_DIR = join(PROJECT_ROOT, 'deploy/grafana');

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly templating: { readonly list: readonly { readonly name: string }[] };
  readonly panels: readonly {
    readonly id: number;
    readonly title: string;
    readonly targets?: readonly { expr: string }[];
  }[];
}

interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly expr: string; readonly record?: string }[] }[];
}

export function dashboards(): Dashboard[] {
  return readdirSync(GRAFANA_DIR)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(join(GRAFANA_DIR, name), 'utf8')) as Dashboard);
}

/** Every query of a dashboard, with its variables unchanged. */
export function queriesOf({ panels }: Dashboard): string[] {
  return panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
}

export function rules(): Rules['groups'][number]['rules'] {
  const { groups } = parse(readFileSync(join(PROMETHEUS_DIR, 'l3af.rules.yml'), 'utf8')) as Rules;
  return groups.flatMap((group) => group.rules);
}

/** The families of l3afd's and the agent's metrics in a query. */
export function familiesIn(query: string): string[] {
  return [...query.matchAll(/(?<![\w:])(?:l3afd|l3af_agent)_\w+(?![\w:])/g)].map(([name]) =>
    name.replace(/_bucket$/, ''),
  );
}
