import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lane, type Turn } from '../../../src/apply/lane.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { NOTHING_DESIRED } from '../../../src/domain/desired.js';
import { Host } from '../../../src/reconcile/host.js';
import { createLogger } from '../../../src/telemetry/log.js';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { builtPackages, noCompanions, planContext, restartPolicy } from '../../support/chains.js';

const BPFFS = '/bpffs';
const log = createLogger({ level: 'silent', host: 'web1' });
const isDefect = { name: 'AgentError', code: 'INTERNAL' };

function givenHost(): Host {
  return new Host({
    tools: {
      datapath: new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map() }),
      packages: builtPackages,
      companions: noCompanions,
    },
    context: planContext(BPFFS),
    metrics: new Metrics('web1'),
    restartPolicy,
  });
}

describe('a turn in the lane', () => {
  test('ends with its task, whatever the result', async () => {
    const lane = new Lane();
    const kept: Turn[] = [];
    await lane.run(async (turn) => {
      kept.push(turn);
      await Promise.resolve();
      turn.assertHeld();
    });
    await assert.rejects(
      lane.run(async (turn) => {
        kept.push(turn);
        throw new Error('failed');
      }),
      /failed/,
    );
    assert.equal(kept.length, 2);
    for (const turn of kept) assert.throws(() => turn.assertHeld(), isDefect);
  });

  test('belongs to one task only', async () => {
    const lane = new Lane();
    const earlier = await lane.run(async (turn) => turn);
    await lane.run(async (turn) => {
      turn.assertHeld();
      assert.throws(() => earlier.assertHeld(), isDefect);
    });
  });

  test('that is over gives no access to the host', async () => {
    const host = givenHost();
    const over = await new Lane().run(async (turn) => turn);
    const calls = [
      async () => host.observe(over),
      async () => host.observeCompanions(over),
      async () => host.apply(over, null, NOTHING_DESIRED, log),
      async () => host.repair(over, NOTHING_DESIRED, log),
      async () => host.rehearse(over, null, { verb: 'deploy', chains: [], addresses: {} }),
      async () => host.detachAll(over, log),
    ];
    for (const call of calls) await assert.rejects(call, isDefect);
    assert.deepEqual((await host.observeOutOfTurn()).hooks, []);
  });

  test('can only be made by the lane', () => {
    const host = givenHost();
    // @ts-expect-error an observation outside the lane does not compile
    const withoutTurn = () => host.observe();
    // @ts-expect-error neither does one with a forged turn
    const withForgedTurn = () => host.observe({ assertHeld: () => {} });
    assert.throws(withoutTurn, TypeError);
    assert.equal(typeof withForgedTurn, 'function');
  });

  test('that is held allows changes of the host', async () => {
    const host = givenHost();
    const report = await new Lane().run((turn) => host.apply(turn, null, NOTHING_DESIRED, log));
    assert.equal(report.status, 'unchanged');
  });
});
