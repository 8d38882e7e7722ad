/*
 * Aggregates of the numbers that are read from a monitored map, one after the other.
 */

export const AGGREGATORS = ['scalar', 'max-rate', 'rate', 'avg', 'min', 'p95'] as const;

/**
 * How the samples of a window are aggregated:
 *
 *   scalar     the newest sample
 *   avg        the mean
 *   min        the minimum
 *   p95        the value that 95 of 100 samples do not exceed
 *   rate       the increase per second
 *   max-rate   the largest increase per second between two samples
 */
export type Aggregator = (typeof AGGREGATORS)[number];

/** The last samples of one number. */
export interface Window {
  readonly last: number;
  /** When it was read, in milliseconds of a monotonic clock. */
  readonly lastAt: number;
  /** Oldest first. For rates: the increase per second from one sample to the next. */
  readonly values: readonly number[];
  /** For rates: the duration that each value covers, in seconds. */
  readonly seconds: readonly number[];
}

/**
 * Adds a sample to a window. A rate needs two samples, so the first one gives none. If the number has fallen, it was
 * reset (its program was loaded again, or its map was written), and there is no rate either.
 *
 * @param size how many values are kept
 */
export function withSample(
  window: Window | undefined,
  aggregator: Aggregator,
  sample: number,
  at: number,
  size: number,
): Window {
  const values = window?.values ?? [];
  const seconds = window?.seconds ?? [];
  if (!isRate(aggregator)) return { last: sample, lastAt: at, values: kept(values, sample, size), seconds };
  if (window === undefined || at <= window.lastAt || sample < window.last) {
    return { last: sample, lastAt: at, values, seconds };
  }
  const took = (at - window.lastAt) / 1000;
  const rate = (sample - window.last) / took;
  return { last: sample, lastAt: at, values: kept(values, rate, size), seconds: kept(seconds, took, size) };
}

/** The aggregate of a window; undefined if there are not enough samples yet. */
export function aggregateOf({ last, values, seconds }: Window, aggregator: Aggregator): number | undefined {
  if (aggregator === 'scalar') return last;
  if (values.length === 0) return undefined;
  switch (aggregator) {
    case 'avg':
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    case 'min':
      return Math.min(...values);
    case 'max-rate':
      return Math.max(...values);
    case 'p95':
      return values.toSorted((a, b) => a - b)[Math.ceil(values.length * 0.95) - 1];
    case 'rate': {
      const total = seconds.reduce((sum, took) => sum + took, 0);
      return values.reduce((sum, rate, index) => sum + rate * seconds[index]!, 0) / total;
    }
  }
}

function isRate(aggregator: Aggregator): boolean {
  return aggregator === 'rate' || aggregator === 'max-rate';
}

function kept(values: readonly number[], value: number, size: number): readonly number[] {
  return [...values.slice(values.length < size ? 0 : values.length - size + 1), value];
}
