/*
 * The two text formats that Prometheus reads: its own, and OpenMetrics
 * (https://prometheus.io/docs/specs/om/open_metrics_spec/).
 */

export type Format = 'prometheus' | 'openmetrics';

export const CONTENT_TYPE: Readonly<Record<Format, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/**
 * The format that a client wants according to its `Accept` header (RFC 9110, 12.5.1). Prometheus' own format by
 * default.
 */
export function formatFor(accept: string | undefined): Format {
  const ranges = (accept ?? '').split(',').map(rangeOf);
  const weightOf = (...types: string[]) => ranges.find(({ type }) => types.includes(type))?.weight ?? 0;
  const open = weightOf('application/openmetrics-text');
  return open > 0 && open >= weightOf('text/plain', 'text/*', '*/*') ? 'openmetrics' : 'prometheus';
}

function rangeOf(text: string): { type: string; weight: number } {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice('q='.length);
  return { type, weight: weight === undefined ? 1 : Number(weight) };
}

/**
 * Converts a text from Prometheus' own format. OpenMetrics requires counters to end in `_total`, and their family to be
 * named without it. The names of l3afd's counters are fixed, so their type is omitted. OpenMetrics allows no empty
 * lines, and has a last line of its own.
 */
export function inFormat(text: string, format: Format): string {
  if (format === 'prometheus') return text;
  const families = text.replaceAll(/^# HELP (\S+) (.*)\n# TYPE \1 counter$/gm, (_, name: string, help: string) => {
    const [family, type] = name.endsWith('_total') ? [name.slice(0, -'_total'.length), 'counter'] : [name, 'unknown'];
    return `# HELP ${family} ${help}\n# TYPE ${family} ${type}`;
  });
  return `${families.replaceAll(/\n{2,}/g, '\n').trimEnd()}\n# EOF\n`;
}
