import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AGGREGATORS, type Aggregator, aggregateOf, type Window, withSample } from '../../../src/domain/aggregate.js';

/** The aggregate after each of the samples, which are one second apart by default. */
function told(aggregator: Aggregator, samples: readonly number[], { size = 20, times = [] as number[] } = {}) {
  let window: Window | undefined;
  return samples.map((sample, index) => {
    window = withSample(window, aggregator, sample, times[index] ?? index * 1000, size);
    return aggregateOf(window, aggregator);
  });
}

describe('the aggregate of a window', () => {
  for (const [aggregator, samples, expected] of [
    ['scalar', [5, 7, 3], [5, 7, 3]],
    ['avg', [4, 8, 0], [4, 6, 4]],
    ['min', [4, 8, -1], [4, 4, -1]],
    ['rate', [100, 110, 140], [undefined, 10, 20]],
    ['max-rate', [100, 110, 140, 145], [undefined, 10, 30, 30]],
  ] as const) {
    it(`${aggregator} is correct`, () => assert.deepEqual(told(aggregator, samples), expected));
  }

  it('p95 is the sample that 95 of 100 do not exceed', () => {
    const samples = Array.from({ length: 100 }, (_, index) => 100 - index);
    assert.equal(told('p95', samples, { size: 100 }).at(-1), 95);
    assert.deepEqual(told('p95', [7]), [7]);
  });

  it('only the samples in the window count', () => {
    assert.deepEqual(told('avg', [9, 1, 3], { size: 2 }), [9, 5, 2]);
    assert.deepEqual(told('min', [1, 5, 6], { size: 2 }), [1, 1, 5]);
    assert.deepEqual(told('max-rate', [0, 50, 51, 52], { size: 2 }), [undefined, 50, 50, 1]);
  });
});

describe('l3afd defect 17: avg panics', () => {
  it('no aggregator fails, whatever the number of samples', () => {
    for (const aggregator of AGGREGATORS) {
      const window: Window = { last: 1, lastAt: 0, values: [], seconds: [] };
      assert.equal(aggregateOf(window, aggregator), aggregator === 'scalar' ? 1 : undefined);
      for (const size of [2, 20]) {
        const all = told(
          aggregator,
          Array.from({ length: 50 }, (_, index) => index),
          { size },
        );
        assert.ok(
          all.slice(1).every((value) => Number.isFinite(value)),
          aggregator,
        );
      }
    }
  });
});

describe('l3afd defect 22: wrong rates', () => {
  it('the first sample gives no rate', () => {
    assert.deepEqual(told('max-rate', [1_000_000]), [undefined]);
    assert.deepEqual(told('rate', [1_000_000, 1_000_000]), [undefined, 0]);
  });

  it('a counter that was reset gives no spike', () => {
    assert.deepEqual(told('max-rate', [1_000_000, 1_000_010, 3, 8]), [undefined, 10, 10, 10]);
    assert.deepEqual(told('rate', [1_000_000, 1_000_010, 3, 23]), [undefined, 10, 10, 15]);
  });

  it('a rate is per second, whatever the time between two samples', () => {
    assert.deepEqual(told('max-rate', [0, 100], { times: [0, 200] }), [undefined, 500]);
    assert.deepEqual(told('rate', [0, 100, 1100], { times: [0, 1000, 11_000] }), [undefined, 100, 100]);
    assert.deepEqual(told('rate', [0, 10, 10], { times: [0, 1000, 10_000] }), [undefined, 10, 1]);
  });

  it('two samples at the same moment give no rate', () => {
    assert.deepEqual(told('max-rate', [0, 100], { times: [5, 5] }), [undefined, undefined]);
  });
});
