import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { hookContract } from './hooks.js';
import { linkContract } from './links.js';
import { loadingContract } from './loading.js';
import { lostPinsContract } from './lost-pins.js';
import { mapArgsContract } from './map-args.js';
import { mapContract } from './maps.js';
import { probesContract } from './probes.js';
import { readingContract } from './readings.js';
import { runContract } from './runs.js';
import { assertEmpty, type Fixture } from './samples.js';
import { stagingContract } from './staging.js';

/**
 * What every datapath does, whether the kernel is behind it or not. Each test has a fixture of its own, of which nothing may be
 * left at its end.
 *
 * @param ordersLinks whether it is one that has several TC links at a hook
 */
export function contract(name: string, makeFixture: () => Promise<Fixture>, { ordersLinks = true } = {}): void {
  describe(name, () => {
    let fixture: Fixture;
    const fixtureOf = () => fixture;
    beforeEach(async () => {
      fixture = await makeFixture();
    });
    afterEach(async () => {
      try {
        await assertEmpty(fixture);
      } finally {
        await fixture.close();
      }
    });

    loadingContract(fixtureOf);
    hookContract(fixtureOf);
    test('says whether TC links are ordered', () => assert.equal(fixture.datapath.ordersLinks(), ordersLinks));
    if (ordersLinks) linkContract(fixtureOf);
    mapContract(fixtureOf);
    mapArgsContract(fixtureOf);
    lostPinsContract(fixtureOf);
    readingContract(fixtureOf);
    runContract(fixtureOf);
    probesContract(fixtureOf);
    stagingContract(fixtureOf);
  });
}
