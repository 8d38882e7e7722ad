import { afterEach, beforeEach, describe } from 'node:test';
import { hookContract } from './hooks.js';
import { loadingContract } from './loading.js';
import { mapContract } from './maps.js';
import { assertEmpty, type Fixture } from './samples.js';

/**
 * What every datapath does, whether the kernel is behind it or not. Each test has a fixture of its own, of which nothing may be
 * left at its end.
 */
export function contract(name: string, makeFixture: () => Promise<Fixture>): void {
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
    mapContract(fixtureOf);
  });
}
