import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { handoverContract } from './handover.js';
import { hookContract } from './hooks.js';
import { linkContract } from './links.js';
import { loadingContract } from './loading.js';
import { lostPinsContract } from './lost-pins.js';
import { mapArgsContract } from './map-args.js';
import { mapKindsContract } from './map-kinds.js';
import { mapContract } from './maps.js';
import { probesContract } from './probes.js';
import { readingContract } from './readings.js';
import { runContract } from './runs.js';
import { assertEmpty, type Fixture } from './samples.js';

/**
 * The behaviour of every datapath, with or without a kernel. Each test has its own fixture, and must leave nothing of
 * it behind.
 *
 * @param ordersLinks whether the datapath supports several TC links at a hook
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
    test('says whether TC links are ordered', () => {
      const ordered = fixture.datapath.ordered();
      assert.deepEqual([ordered.has('ingress'), ordered.has('xdpingress')], [ordersLinks, false]);
    });
    if (ordersLinks) linkContract(fixtureOf);
    mapContract(fixtureOf);
    mapArgsContract(fixtureOf);
    mapKindsContract(fixtureOf);
    lostPinsContract(fixtureOf);
    readingContract(fixtureOf);
    runContract(fixtureOf);
    probesContract(fixtureOf);
    handoverContract(fixtureOf);
  });
}
