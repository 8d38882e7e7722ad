import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { PROJECT_ROOT } from './project.js';

/*
 * What is shipped for Prometheus and Grafana, as their programs would read it.
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

/** Every query of a dashboard, its variables left as they are. */
export function queriesOf({ panels }: Dashboard): string[] {
  return panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
}

export function rules(): Rules['groups'][number]['rules'] {
  const { groups } = parse(readFileSync(join(PROMETHEUS_DIR, 'l3af.rules.yml'), 'utf8')) as Rules;
  return groups.flatMap((group) => group.rules);
}

/** The families of l3afd's and the agent's metrics that a query is about. */
export function familiesIn(query: string): string[] {
  return [...query.matchAll(/(?<![\w:])(?:l3afd|l3af_agent)_\w+(?![\w:])/g)].map(([name]) =>
    name.replace(/_bucket$/, ''),
  );
}
