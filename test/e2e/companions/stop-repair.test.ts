import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { processesWith, withoutForks } from '../../support/companions.js';
import { type PackageSpec, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { until } from '../../support/until.js';
import { programIdsOf } from '../support/kernel.js';
import { PLATFORM, Stage } from '../support/stage.js';

/*
 * The agent is told to stop while a repair restarts companions that start slowly. It waits for those that it has begun
 * to start, which start side by side, and the next agent finds them.
 */

const OPTIONS = `for word; do case $word in --switch=*) switch=\${word#*=} ;; esac; done`;
const NAMES = ['port-count', 'port-drop'] as const;

const slow = (name: (typeof NAMES)[number]): PackageSpec => ({
  name,
  version: '1.0',
  platform: PLATFORM,
  artifact: 'slow.tar.gz',
  files: {
    [`${name.replace('-', '_')}.bpf.o`]: builtObject(name.replace('-', '_')),
    stay: { script: `#!/bin/sh\n${OPTIONS}\nexec >&- 2>&-\nwhile :; do sleep 0.05; done\n` },
    ask: { script: `#!/bin/sh\n${OPTIONS}\n[ ! -e "$switch/go" ] || echo RUNNING\n` },
  },
});

let stage: Stage;
/** A folder. While it has the file `go`, companions report that they run. */
let switches: string;

before(async () => {
  switches = await mkdtemp(join(tmpdir(), 'l3af-switches-'));
  const env = { L3AF_RECONCILE_INTERVAL: '200ms', L3AF_LOG_LEVEL: 'debug' };
  stage = await Stage.open({ host: 'stop-repair', packages: NAMES.map(slow), env });
});
after(async () => {
  await stage.close();
  await rm(switches, { recursive: true });
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});

const go = () => writeFile(join(switches, 'go'), '');

/** Process ids of the running companions. */
function companions(): number[] {
  const all = processesWith(stage.stateDir).filter((pid) => {
    return pid !== stage.agent.pid && contentOf(`/proc/${pid}/cmdline`).includes('/stay\0');
  });
  return withoutForks(all);
}

/** The phase of each companion that has a record. */
function phases(): string[] {
  const dir = join(stage.stateDir, 'companions');
  return readdirSync(dir).map((id) => (JSON.parse(contentOf(join(dir, id, 'record.json'))) as { phase: string }).phase);
}

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** The steps of repairs in the log from a line on. */
function stepsSince(line: number): string[] {
  const lines = stage.agent.logs().slice(line);
  return lines.filter(({ msg, op }) => msg === 'step' && op === 'reconcile').map(({ step }) => String(step));
}

/**
 * Kills both companions while the agent is halted. Companions that start afterwards do not report that they run.
 *
 * @returns number of log lines so far
 */
async function killBoth(): Promise<number> {
  await rm(join(switches, 'go'));
  const begun = stage.agent.logs().length;
  await stage.agent.whileHalted(async () => {
    for (const pid of companions()) process.kill(pid, 'SIGKILL');
  });
  return begun;
}

/**
 * Whether the first repair that starts a companion has two to start. A repair checks the commands of all its companions
 * before it starts one.
 */
async function takesUpBoth(begun: number): Promise<boolean> {
  await until('a repair starts a companion', () => stepsSince(begun).some((step) => step.startsWith('start the')));
  return stepsSince(begun).filter((step) => step.startsWith('check the commands')).length === 2;
}

test('an agent that is stopped while a repair starts companions waits for them and leaves none half-started', async () => {
  // given two programs whose companions have both died
  await go();
  const common = { artifact: 'slow.tar.gz', cmd_start: 'stay', cmd_status: 'ask', user_program_daemon: true };
  const args = { start_args: { switch: switches }, status_args: { switch: switches } };
  const programs = NAMES.map((name, index) => payloadProgram(name, { seq_id: index + 1, ...common, ...args }));
  const deployed = await stage.deploy({ xdp_ingress: programs });
  assert.equal(deployed.status, 'applied', deployed.message);
  const chain = programIdsOf(await stage.chain());
  let begun = await killBoth();
  const started = () => stepsSince(begun).filter((step) => step.startsWith('start the companion'));
  // A repair whose observation began before the kill may restart only one companion. Then the test tries again.
  while (!(await takesUpBoth(begun))) {
    await go();
    await until('both run again', () => companions().length === 2 && phases().join() === 'running,running');
    begun = await killBoth();
  }

  // when the agent is told to stop while it waits for both
  await until('both companions are being started', () => started().length === 2 && companions().length === 2);
  const told = stage.agent.logs().length;
  const stopped = stage.agent.stop();
  await until('the agent stops', () => stage.agent.logs().some(({ msg }) => msg === 'stopping'));
  await go();

  // then it ends in an orderly way, and nothing is half done
  assert.deepEqual(await stopped, { code: 0 });
  assert.equal(started().length, 2);
  const running = companions();
  assert.equal(running.length, 2);
  assert.deepEqual(phases(), ['running', 'running']);
  // Before that, a repair may have had to wait until a companion that was killed twice could be started again.
  const errors = stage.agent.logs().filter(({ level }, line) => line >= told && level === 'error');
  assert.deepEqual(errors, []);

  // and the next agent finds both
  await stage.agent.start();
  assert.deepEqual(companions(), running);
  assert.deepEqual(programIdsOf(await stage.chain()), chain);
});
