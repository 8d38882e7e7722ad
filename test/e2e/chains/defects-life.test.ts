import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { payloadProgram } from '../../support/packages.js';
import { marks } from '../support/chain.js';
import { namesOf } from '../support/kernel.js';
import { Stage } from '../support/stage.js';

/*
 * What l3afd, the predecessor, did wrong in concurrent work and in edge cases. Each test names one defect and shows
 * that it is not present here.
 */

let stage: Stage;
before(async () => {
  const env = { L3AF_RECONCILE_INTERVAL: '100ms', L3AF_METRICS_INTERVAL: '100ms', L3AF_SNAPSHOT_INTERVAL: '100ms' };
  stage = await Stage.open({ host: 'defects-life', env });
});
after(() => stage.close());

test('l3afd defect 16: shared lists without a lock', async () => {
  // given commands that arrive at once, during repairs, metrics, snapshots and queries
  const wanted = [[1], [1, 2], [2], [2, 3], [1, 3], [1, 2, 3], [3], [2, 1]];
  const chains = new Set(['', ...wanted.map((numbers) => namesOfMarks(numbers))]);
  const { pid } = stage.agent;
  let asking = true;
  const seen: string[] = [];
  const questions = ['state', 'programs', 'status'] as const;
  const askers = questions.map(async (verb) => {
    while (asking) {
      const reply = await stage.fleet.request(stage.host, verb, {});
      if (!('IngressXDPBpfs' in reply)) continue;
      const chain = reply.IngressXDPBpfs[stage.bed.iface] ?? [];
      seen.push(
        chain
          .filter(({ ProgID }) => ProgID !== 0)
          .map(({ Program }) => Program.name)
          .filter((name) => name !== 'xdp-root')
          .join(),
      );
    }
  });

  // when all commands are acknowledged
  const answers = await Promise.all(wanted.map((numbers) => stage.deploy({ xdp_ingress: marks(numbers) })));
  asking = false;
  await Promise.all(askers);

  // then each was carried out, the last one of the stream runs, and no query saw a half-finished command
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], ['applied']);
  const last = answers.reduce((a, b) => (a.seq > b.seq ? a : b));
  const running = last.programs
    .filter(({ result }) => result !== 'stopped')
    .map(({ name, version }) => `${name}@${version}`);
  assert.deepEqual(namesOf(await stage.chain()).toSorted(), running.toSorted());
  assert.deepEqual(
    seen.filter((chain) => !chains.has(chain)),
    [],
  );
  assert.equal(stage.agent.pid, pid);
});

test('l3afd defect 21: unloading at seq_id 0 panics', async () => {
  const first = payloadProgram('xdp-mark-1', { ...marks([1])[0], seq_id: 0 });
  await stage.deploy({ xdp_ingress: [first] });
  const { pid } = stage.agent;
  const ack = await stage.delete({ xdp_ingress: ['xdp-mark-1'] });
  assert.equal(ack.status, 'applied');
  assert.equal(await stage.chain(), undefined);
  assert.equal(stage.agent.pid, pid);
});

function namesOfMarks(numbers: readonly number[]): string {
  return marks(numbers)
    .map(({ name }) => name)
    .join();
}
