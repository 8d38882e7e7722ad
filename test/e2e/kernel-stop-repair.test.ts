import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { processesWith } from '../support/companions.js';
import { type PackageSpec, payloadProgram } from '../support/packages.js';
import { builtObject } from '../support/project.js';
import { until } from '../support/until.js';
import { programIdsOf } from './support-kernel.js';
import { PLATFORM, Stage } from './support-stage.js';

/*
 * The agent is told to stop while a repair starts companions again that take their time. It begins no further one, takes back what the
 * repair had done, and the next agent goes on.
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
/** A folder with the file `go` when companions are to say that they run. */
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

/** Process ids of the companions that run. */
function companions(): number[] {
  return processesWith(stage.stateDir).filter((pid) => {
    return pid !== stage.agent.pid && contentOf(`/proc/${pid}/cmdline`).includes('/stay\0');
  });
}

/** How far each companion is that there is a record of. */
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

/** The steps of repairs that the log tells since a line. */
function stepsSince(line: number): string[] {
  const lines = stage.agent.logs().slice(line);
  return lines.filter(({ msg, op }) => msg === 'step' && op === 'reconcile').map(({ step }) => String(step));
}

test('an agent that is stopped while a repair starts a companion starts no further one, and leaves none half-started', async () => {
  // given two programs with companions, which both have died
  await go();
  const common = { artifact: 'slow.tar.gz', cmd_start: 'stay', cmd_status: 'ask', user_program_daemon: true };
  const args = { start_args: { switch: switches }, status_args: { switch: switches } };
  const programs = NAMES.map((name, index) => payloadProgram(name, { seq_id: index + 1, ...common, ...args }));
  const deployed = await stage.deploy({ xdp_ingress: programs });
  assert.equal(deployed.status, 'applied', deployed.message);
  const chain = programIdsOf(await stage.chain());
  await rm(join(switches, 'go'));
  const begun = stage.agent.logs().length;
  for (const pid of companions()) process.kill(pid, 'SIGKILL');

  // when the agent is told to stop while it waits for the first one
  const started = () => stepsSince(begun).filter((step) => step.startsWith('start the companion'));
  await until('a companion is being started', () => started().length === 1 && companions().length === 1);
  const stopped = stage.agent.stop();
  await until('the agent stops', () => stage.agent.logs().some(({ msg }) => msg === 'stopping'));
  await go();

  // then it ends in order, and nothing is half done
  assert.deepEqual(await stopped, { code: 0 });
  assert.equal(started().length, 1, 'the second one was begun');
  assert.deepEqual(companions(), []);
  assert.deepEqual(phases(), ['running'], 'but for the record of the one that has died, and waits');
  const told = stage.agent.logs().slice(begun);
  assert.ok(told.some(({ msg }) => msg === 'the agent stops before the repair is over; the next one goes on'));
  assert.deepEqual(
    told.filter(({ level }) => level === 'error'),
    [],
  );

  // and the next one starts both
  await stage.agent.start();
  await until('both run', () => companions().length === 2);
  assert.deepEqual(programIdsOf(await stage.chain()), chain);
});
