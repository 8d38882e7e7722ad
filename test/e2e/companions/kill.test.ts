import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { processesWith, stateOf, withoutForks } from '../../support/companions.js';
import { type PackageSpec, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { until, untilGiven } from '../../support/until.js';
import { programIdsOf } from '../support/kernel.js';
import { PLATFORM, Stage } from '../support/stage.js';

/*
 * The agent is killed while a companion is started, stopped or changed, or a companion loses its interface or its
 * folder. The next agent reaches the desired state. Each companion runs once, and no process, record or control group
 * is left over.
 */

const OPTIONS = `for word; do case $word in --switch=*) switch=\${word#*=} ;; esac; done`;
/** Waits for the test, with `sleep` as a child process. */
const WAIT = `while [ ! -e "$switch/go" ]; do sleep 0.05; done`;

const killed: PackageSpec = {
  name: 'port-count',
  version: '1.0',
  platform: PLATFORM,
  artifact: 'killed.tar.gz',
  files: {
    'port_count.bpf.o': builtObject('port_count'),
    stay: {
      script: `#!/bin/sh\n${OPTIONS}\nif [ "$1" = worker ]; then while :; do sleep 0.05; done; fi
env -i "$0" worker "$@" &
while :; do sleep 0.05; done\n`,
    },
    stubborn: {
      script: `#!/bin/sh\n${OPTIONS}\ntrap 'echo heard >>"$switch/heard"' TERM\nwhile :; do sleep 0.05; done\n`,
    },
    vandal: {
      script: `#!/bin/sh\nexec >&- 2>&-\nrm -rf "$(dirname "$0")"\nwhile :; do sleep 0.05; done\n`,
    },
    ask: { script: `#!/bin/sh\n${OPTIONS}\n[ ! -e "$switch/go" ] || echo RUNNING\n` },
    once: { script: `#!/bin/sh\n${OPTIONS}\necho begun >>"$switch/once"\n${WAIT}\necho done >>"$switch/once"\n` },
    set: { script: `#!/bin/sh\n${OPTIONS}\necho begun >>"$switch/set"\n${WAIT}\necho done >>"$switch/set"\n` },
  },
};

let stage: Stage;
/** A folder where companions write their progress. They wait for its file `go`. */
let switches: string;

before(async () => {
  switches = await mkdtemp(join(tmpdir(), 'l3af-switches-'));
  stage = await Stage.open({ host: 'companion-kill', packages: [killed], env: { L3AF_RECONCILE_INTERVAL: '200ms' } });
});
after(async () => {
  await stage.close();
  await rm(switches, { recursive: true });
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});
/** Control groups that a test has seen. */
const groups = new Set<string>();
afterEach(async () => {
  assert.match((await stage.deploy({})).status, /^(applied|unchanged)$/);
  assert.deepEqual(companions(), []);
  assert.deepEqual(records(), []);
  assert.deepEqual([...groups].filter(existsSync), [], 'control groups are left');
  for (const name of readdirSync(switches)) await rm(join(switches, name));
});

const counted = (cmdStart: string, overrides: Partial<PayloadProgram> = {}): PayloadProgram =>
  payloadProgram('port-count', {
    artifact: 'killed.tar.gz',
    seq_id: 10,
    cmd_start: cmdStart,
    user_program_daemon: true,
    start_args: { switch: switches },
    status_args: { switch: switches },
    ...overrides,
  });

/** Process ids of everything that was started from the package. */
function companions(): number[] {
  const all = processesWith(stage.stateDir);
  return withoutForks(all.filter((pid) => pid !== stage.agent.pid && wordsOf(pid).includes('--iface=')));
}

/** Process id of the only companion, ignoring its workers. */
function companion(): Promise<number> {
  return untilGiven('one companion runs', () => {
    const leaders = companions().filter((pid) => !wordsOf(pid).includes('\0worker\0'));
    return leaders.length === 1 ? leaders[0] : undefined;
  });
}

const wordsOf = (pid: number) => contentOf(`/proc/${pid}/cmdline`);
const said = (file: string) => contentOf(join(switches, file)).split('\n').filter(Boolean);
const go = () => writeFile(join(switches, 'go'), '');

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

interface Recorded {
  readonly phase: string;
  readonly cgroup: string;
}

/** The records of companions on disk now. */
function records(): Recorded[] {
  const dir = join(stage.stateDir, 'companions');
  const found = readdirSync(dir).map((id) => JSON.parse(contentOf(join(dir, id, 'record.json')) || '{}') as Recorded);
  for (const { cgroup } of found) if (cgroup !== '') groups.add(cgroup);
  return found;
}

const publish = async (verb: 'deploy' | 'delete', lists: Parameters<Stage['payload']>[0]) =>
  (await stage.fleet.publish(verb, stage.host, stage.payload(lists))).id;

async function answerTo(id: string): Promise<string> {
  return untilGiven('the command is answered', async () => {
    const acks = await stage.fleet.acks(stage.host, { limit: 100 });
    return acks.findLast((ack) => ack.id === id)?.status;
  });
}

/** Kills the agent in the middle of a command. */
async function kill(): Promise<void> {
  await stage.agent.kill('SIGKILL');
  records();
}

test('killed while a companion is starting: it is stopped with its workers, and another one is started', async () => {
  const id = await publish('deploy', { xdp_ingress: [counted('stay', { cmd_status: 'ask' })] });
  const first = await companion();
  await until('its worker runs', () => companions().length === 2);
  const before = companions();
  await kill();
  assert.deepEqual(
    records().map(({ phase }) => phase),
    ['starting'],
  );

  await go();
  await stage.agent.start();
  assert.match(await answerTo(id), /^(applied|unchanged)$/);
  await until('they have ended', () => before.every((pid) => [undefined, 'Z'].includes(stateOf(pid))));
  assert.notEqual(await companion(), first);
  assert.deepEqual(
    records().map(({ phase }) => phase),
    ['running'],
  );
});

test('killed while a one-shot companion runs: it is stopped and run again, and completes once', async () => {
  const id = await publish('deploy', { xdp_ingress: [counted('once', { user_program_daemon: false })] });
  await until('it has begun', () => said('once').length === 1);
  await kill();
  assert.equal(companions().length, 1);
  const starting = stage.agent.start();
  await until('another one has begun', () => said('once').length === 2);
  assert.equal(companions().length, 1);
  await go();
  await starting;
  assert.match(await answerTo(id), /^(applied|unchanged)$/);
  assert.deepEqual(said('once'), ['begun', 'begun', 'done']);
  assert.deepEqual(companions(), []);
});

test('killed during cmd_update: the companion keeps running, and the update is run again and completes once', async () => {
  assert.equal((await stage.deploy({ xdp_ingress: [counted('stay')] })).status, 'applied');
  const pid = await companion();
  const chain = programIdsOf(await stage.chain());
  const update = { cmd_update: 'set', update_args: { switch: switches } };
  const id = await publish('deploy', { xdp_ingress: [counted('stay', update)] });
  await until('it has begun', () => said('set').length === 1);
  await kill();
  const starting = stage.agent.start();
  await until('another one has begun', () => said('set').length === 2);
  await go();
  await starting;
  assert.match(await answerTo(id), /^(applied|unchanged)$/);
  assert.deepEqual(said('set'), ['begun', 'begun', 'done']);
  assert.equal(await companion(), pid);
  assert.deepEqual(programIdsOf(await stage.chain()), chain);
});

test('killed between SIGTERM and SIGKILL: the next agent stops a companion that ignores SIGTERM', async () => {
  assert.equal((await stage.deploy({ xdp_ingress: [counted('stubborn')] })).status, 'applied');
  const pid = await companion();
  const id = await publish('delete', { xdp_ingress: ['port-count'] });
  await until('it has been asked', () => said('heard').length === 1);
  await kill();
  assert.equal(await companion(), pid);
  await stage.agent.start();
  assert.match(await answerTo(id), /^(applied|unchanged)$/);
  await until('it has ended', () => stateOf(pid) === undefined || stateOf(pid) === 'Z');
});

test('when an interface is deleted and created again while a companion starts, the companion and its program run again', async () => {
  const id = await publish('deploy', { xdp_ingress: [counted('stay', { cmd_status: 'ask' })] });
  await companion();
  await stage.bed.recreate();
  await go();
  await answerTo(id);
  await stage.deploy({ xdp_ingress: [counted('stay', { cmd_status: 'ask' })] });
  await companion();
  assert.equal((await stage.chain())?.members.at(-1)?.name, 'port-count');
});

test('a companion that removes its package’s folder and closes its output is still watched, changed and stopped', async () => {
  assert.equal((await stage.deploy({ xdp_ingress: [counted('vandal')] })).status, 'applied');
  const pid = await companion();
  assert.equal(
    (await stage.deploy({ xdp_ingress: [counted('vandal', { start_args: { other: '1' } })] })).status,
    'applied',
  );
  assert.notEqual(await companion(), pid);
  await kill();
  await stage.agent.start();
  await companion();
});
