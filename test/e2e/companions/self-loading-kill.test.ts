import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { processesWith } from '../../support/companions.js';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { selfLoaded, selfLoadingPackage } from '../../support/self-loading.js';
import { until } from '../../support/until.js';
import { numberIn } from '../support/kernel.js';
import { PLATFORM, PROBE_PORT, Stage } from '../support/stage.js';

/*
 * The agent is killed at every step of a command whose companion loads its program. The next agent reaches the desired
 * state, with one companion and nothing left over. Meanwhile, no packet misses the neighbouring programs.
 */

const NAME = 'xdp-mark-2';
const RATE = 2_000;

/** The next step of the agent, according to its log. */
const MOMENTS = [
  /^make a slot for the companion/,
  /^start the companion .*, which loads the program/,
  /^take over xdp-mark-2 /,
  /^link xdp-mark-2 /,
  /^link xdp-mark-1 /,
  /^remove the name .*xdp-mark-2/,
  /^wait until no packet/,
  /^stop the companion/,
  /^unload xdp-mark-2/,
  /^see .* gone/,
];

let stage: Stage;

before(async () => {
  const packages = ['1.0', '2.0'].map((version) => selfLoadingPackage('xdp', NAME, { version, platform: PLATFORM }));
  stage = await Stage.open({
    host: 'self-loading-kill',
    packages,
    env: { L3AF_LOG_LEVEL: 'debug', L3AF_COMPANION_SETTLE_TIME: '200ms' },
  });
});
after(async () => {
  await stage.close();
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});

const chain = (version: string): PayloadProgram[] => {
  const [first, second, third] = [1, 2, 3].map((id) => payloadProgram(`xdp-mark-${id as 1 | 2 | 3}`, { seq_id: id }));
  return [first!, selfLoaded({ ...second!, version }), third!];
};
const companions = () => processesWith(stage.stateDir).filter((id) => id !== stage.agent.pid);
const seen = async (name: string) => (await numberIn(stage.xdpMap(name, '1.0', 'mark_seen'))) ?? 0;

test('after a kill at any step, the next agent has one companion, whose program is in the chain', async (t) => {
  assert.equal((await stage.deploy({ xdp_ingress: chain('1.0') })).status, 'applied');
  const traffic = await stage.startTraffic(PROBE_PORT, RATE);
  let version = '1.0';
  for (const moment of MOMENTS) {
    await t.test(String(moment), async () => {
      version = version === '1.0' ? '2.0' : '1.0';
      const begun = stage.agent.logs().length;
      const { id } = await stage.fleet.publish('deploy', stage.host, stage.payload({ xdp_ingress: chain(version) }));
      await until(`the agent comes to ${moment}`, async () =>
        stage.agent
          .logs()
          .slice(begun)
          .some(({ msg, step }) => msg === 'step' && moment.test(String(step))),
      );
      await stage.agent.kill('SIGKILL');
      await stage.agent.start();
      await until('the command is answered', async () => {
        const acks = await stage.fleet.acks(stage.host, { limit: 100 });
        return acks.some((ack) => ack.id === id && (ack.status === 'applied' || ack.status === 'unchanged'));
      });
      const { members } = (await stage.chain())!;
      assert.deepEqual(
        members.map(({ name, version: its }) => `${name} ${its.replace('_', '.')}`),
        ['xdp-root latest', 'xdp-mark-1 1.0', `${NAME} ${version}`, 'xdp-mark-3 1.0'],
      );
      await until('one companion runs', async () => companions().length === 1);
      const state = await stage.kernel();
      assert.equal(state.programs.length, members.length, 'programs are pinned that are in no chain');
      assert.deepEqual(await stage.leaked(state), []);
    });
  }
  const packets = (await traffic.stop()) - (await stage.bed.lost());
  for (const name of ['xdp-mark-1', 'xdp-mark-3']) {
    await until(`${name} has seen all packets`, async () => (await seen(name)) === packets);
  }
});
