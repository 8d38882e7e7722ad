import assert from 'node:assert/strict';
import { test } from 'node:test';
import { packagesInUse } from '../../../src/daemon/upkeep.js';
import { normalize } from '../../../src/domain/desired.js';
import { planContext, program } from '../../support/chains.js';

test('packages of programs, of disabled programs and of probes are in use', () => {
  const hook = { iface: 'veth0', direction: 'ingress' } as const;
  const programs = [program('a', 1), program('b', 2, { enabled: false })];
  const desired = normalize({ chains: [{ hook, programs }], addresses: {}, probes: [program('p', 0)] });

  const used = packagesInUse(desired, planContext('/bpffs').roots);

  assert.deepEqual(
    used.map(({ name }) => name),
    ['a', 'b', 'p'],
  );
});
