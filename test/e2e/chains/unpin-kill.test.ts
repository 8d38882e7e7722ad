import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { until } from '../../support/until.js';
import { assertChain, assertLinked, marks } from '../support/chain.js';
import { type Member, programIdsOf } from '../support/kernel.js';
import { Stage } from '../support/stage.js';

/*
 * The agent is killed while it restores pins that somebody has removed. The next agent completes this, with the running
 * programs.
 */

const NAMES = ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0'];

let stage: Stage;
before(async () => {
  stage = await Stage.open({
    host: 'unpin-kill',
    env: { L3AF_RECONCILE_INTERVAL: '200ms', L3AF_LOG_LEVEL: 'debug' },
  });
  await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });
});
after(() => stage.close());

for (const [what, pinsOf] of [
  ['a program', (member: Member) => [`${member.dir}/prog`]],
  ['a data map', (member: Member) => [`${member.dir}/maps/mark_packets`]],
  ['a program and its maps', (member: Member) => [`${member.dir}/prog`, `${member.dir}/maps`]],
] as const) {
  test(`killed several times while it pins ${what} again: the next agent restores all pins, and loads nothing`, async () => {
    const chain = await assertLinked(stage, NAMES);
    const kernel = await stage.kernel();
    for (let kill = 1; kill <= 3; kill += 1) {
      const begun = stage.agent.logs().length;
      const pins = chain.members.slice(1).flatMap((member) => pinsOf(member));
      await Promise.all(pins.map((pin) => rm(join(stage.bpffs, pin), { recursive: true })));
      await until('the agent pins again', () =>
        stage.agent
          .logs()
          .slice(begun)
          .some(({ msg, step }) => msg === 'step' && /^pin .* again/.test(String(step))),
      );
      await stage.agent.kill('SIGKILL');
      await stage.agent.start();
      await assertChain(stage, NAMES);
    }

    assert.deepEqual(programIdsOf(await stage.chain()), programIdsOf(chain));
    assert.deepEqual(await stage.kernel(), kernel, 'everything is the same one as before');
    assert.equal((await stage.deploy({ xdp_ingress: marks([1, 2, 3]) })).status, 'unchanged');
  });
}
