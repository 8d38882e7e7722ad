import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { processesWith } from '../../support/companions.js';
import type { PayloadProgram } from '../../support/packages.js';
import { until, untilGiven } from '../../support/until.js';
import { openProbesStage, type ProbesStage, probe, watching } from '../support/probes.js';

/*
 * Companions of probes. Probes belong to no interface.
 */

let on: ProbesStage;
before(async () => {
  on = await openProbesStage('probe-companions', 500);
});
afterEach(() => on.clear());
after(async () => {
  await on.close();
  assert.deepEqual(companions(), [], 'companions are left');
});

const events = (changes: Partial<PayloadProgram> = {}) =>
  probe('events', {
    ...watching(on.pid),
    cmd_start: 'watch',
    user_program_daemon: true,
    start_args: { bpffs: on.stage.bpffs },
    ...changes,
  });
const deploy = (...probes: PayloadProgram[]) => on.stage.deploy({ probes });
const resultOf = async (answer: ReturnType<typeof deploy>) => (await answer).programs.map(({ result }) => result);
const companions = () => processesWith(on.stage.stateDir).filter((id) => id !== on.stage.agent.pid);
const companion = () =>
  untilGiven('one companion runs', () => {
    const [pid, ...others] = companions();
    return others.length === 0 ? pid : undefined;
  });
const stateOfCompanion = async () => (await on.stage.fleet.request(on.stage.host, 'state', {})).ProbesBpfs[0];
const programs = async () => (await on.stage.kernel()).programs.map(({ id }) => id);

test('a companion of probes is started when they are attached, and stopped with them', async () => {
  const answer = await deploy(events());
  assert.equal(answer.status, 'applied', answer.message);
  const said = await untilGiven('it says how it was started', () =>
    on.stage.agent.logs().find(({ msg, line }) => msg === 'companion output' && String(line).startsWith('watching')),
  );
  assert.equal(said.line, `watching --version=1_0 --bpffs=${on.stage.bpffs}`);
  assert.equal((await deploy(events())).status, 'unchanged');
  assert.equal((await stateOfCompanion())?.CompanionState, 'running');

  await on.stage.delete({ probes: ['events'] });
  assert.deepEqual(companions(), []);
});

test('with other start arguments the probes begin anew, with a companion that is told the new ones', async () => {
  await deploy(events());
  const [pid, before] = [await companion(), await programs()];
  const args = { bpffs: on.stage.bpffs, rate: '9' };
  assert.deepEqual(await resultOf(deploy(events({ start_args: args }))), ['updated']);
  assert.notEqual(await companion(), pid);
  const after = await programs();
  assert.equal(after.length, before.length);
  assert.ok(after.every((id) => !before.includes(id)));
});

test('a companion that cannot start fails the command, and no probe is left', async () => {
  const answer = await deploy(events({ cmd_start: 'fail' }));
  assert.deepEqual([answer.status, answer.undone, answer.code], ['failed', true, 'COMPANION_FAILED']);
  assert.equal(answer.errors[0]?.path, '0.bpf_programs.probes.0.cmd_start');
  assert.match(answer.message ?? '', /^start the companion of events 1.0: fail is a daemon/);
  assert.deepEqual(await programs(), []);
});

test('a companion that has ended is started again, and the next agent adopts a running one', async () => {
  await deploy(events());
  const pid = await companion();
  process.kill(pid, 'SIGKILL');
  await until('its restart is counted', async () => (await stateOfCompanion())?.RestartCount === 1);
  const now = await companion();
  assert.notEqual(now, pid);
  await on.stage.agent.kill('SIGKILL');
  await on.stage.agent.start();
  assert.equal(await companion(), now);
  const state = await stateOfCompanion();
  assert.deepEqual([state?.CompanionState, state?.RestartCount], ['running', 1]);
});
