import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { makeGroup, type TestGroup } from '../../support/cgroup.js';
import { type Ran, shell } from '../../support/l3afctl.js';
import { PROJECT_ROOT } from '../../support/project.js';
import { blocksIn, commandsIn } from '../../support/readme.js';
import { DISCARD_PORT, eventually, Stage } from '../support/stage.js';

/*
 * The plans and pictures in README.md are the real output of its commands, run one after the other on a real kernel.
 * Only the interface, the folders, and numbers that differ from run to run are replaced by those of the README.
 */

const SHOWN = commandsIn('Plan and show');
const EXAMPLES = await readdir(join(PROJECT_ROOT, 'deploy', 'examples'));
const README = {
  iface: 'lab0',
  cgroup: '/system.slice/nginx.service',
  bpffs: '/sys/fs/bpf',
  repository: '/tmp/l3af-repo',
};

let stage: Stage;
let group: TestGroup;
/** A folder where the commands find the same files as in the project's. */
let folder: string;

before(async () => {
  // No package of the stage is for this platform. So the agent finds those of the README, under `any`.
  const env = { L3AF_RECONCILE_INTERVAL: '1h', L3AF_PLATFORM: 'readme' };
  stage = await Stage.open({ host: 'web1', env });
  group = makeGroup();
  folder = await mkdtemp(join(tmpdir(), 'l3af-readme-'));
  await symlink(join(PROJECT_ROOT, 'native'), join(folder, 'native'));
  const examples = join(folder, 'deploy', 'examples');
  await mkdir(examples, { recursive: true });
  for (const name of EXAMPLES) {
    const text = await readFile(join(PROJECT_ROOT, 'deploy', 'examples', name), 'utf8');
    // The companion gets the path of the bpffs, which is not where l3afd has it.
    const here = text.replaceAll('"collector"', `"bpffs": "${stage.bpffs}", "collector"`);
    await writeFile(
      join(examples, name),
      here.replaceAll(README.iface, stage.bed.iface).replaceAll(README.cgroup, group.path),
    );
  }
  const pack = blocksIn('1. Packages', 'sh').find((block) => block.startsWith('pack()')) ?? '';
  const { code, error } = await run(pack);
  assert.equal(code, 0, error);
});

after(async () => {
  await stage.close();
  group.close();
  await rm(folder, { recursive: true });
});

test('README.md has the six plans and the pictures of chains', () => {
  const [plans, pictures] = ['plan', 'show'].map((word) =>
    SHOWN.filter(({ command }) => command.includes(`l3afctl ${word}`)),
  );

  assert.ok(plans!.length >= 6 && pictures!.length >= 2, SHOWN.map(({ command }) => command).join('\n'));
});

for (const [index, { command, output }] of SHOWN.entries()) {
  // A command without output is tested together with the next one.
  if (output.length === 0) continue;
  const silent = SHOWN[index - 1]?.output.length === 0 ? [SHOWN[index - 1]!.command] : [];
  test(`README.md shows the output of: ${command}`, async () => {
    const traffic = command.includes('--stats') ? await stage.startTraffic(DISCARD_PORT, 5_000) : undefined;
    const cut = output.findIndex((line) => line.trim() === '…');
    const expected = (cut === -1 ? output : output.slice(0, cut)).map(still);
    const actual = async () => {
      const { out, error } = await run([...silent, command].join('\n'));
      const lines = likeReadme(`${out}${error}`).split('\n').slice(0, -1);
      return (cut === -1 ? lines : lines.slice(0, cut)).map(still);
    };

    // The agent may repair damage before the test sees it: a change to any interface wakes the agent.
    const isRight = (lines: readonly string[]) => silent.length === 0 || lines.join('\n') === expected.join('\n');
    assert.deepEqual(await eventually(actual, isRight, `expected ${expected.join('\n')}`), expected);
    await traffic?.stop();
  });
}

for (const { name, verb, before, told, status } of EXAMPLES.map(expectationOf)) {
  test(`deploy/examples/${name} does what it says on a real kernel`, async () => {
    const clear = "echo '[]' | l3afctl deploy -f - --host web1 --wait";
    const cleared = await run([clear, ...before].join(' && '));
    assert.equal(cleared.code, 0, cleared.out);

    const { out, code } = await run(`l3afctl ${verb} -f deploy/examples/${name} --wait`);

    assert.match(out, told);
    assert.equal(code, status);
  });
}

interface Expectation {
  readonly name: string;
  readonly verb: 'deploy' | 'add' | 'delete';
  readonly before: readonly string[];
  readonly told: RegExp;
  readonly status: number;
}

function expectationOf(name: string): Expectation {
  const applied = { name, verb: 'deploy', before: [], told: /^✔ .*: applied in /, status: 0 } as const;
  switch (name) {
    case 'add.json':
      return { ...applied, verb: 'add' };
    case 'delete.json':
      return { ...applied, verb: 'delete', before: ['l3afctl deploy -f deploy/examples/chain.json --wait'] };
    case 'broken.json':
      return { ...applied, verb: 'add', told: /^✖ .*\n +VERIFIER_REJECTED: /, status: 1 };
    case 'companion.json':
      // The first line packs the companion. The second line is the one under test.
      return { ...applied, before: blocksIn('Companions', 'sh')[0]?.split('\n').slice(0, 1) ?? [] };
    case 'self-loading.json':
      return {
        ...applied,
        before: blocksIn('Programs that their companion loads', 'sh')[0]?.split('\n').slice(0, 1) ?? [],
      };
    default:
      return applied;
  }
}

/** Runs a command of the README on this test's interface and folders. */
function run(command: string): Promise<Ran> {
  const here = command
    .replaceAll(README.repository, stage.repository)
    .replaceAll(README.bpffs, stage.bpffs)
    .replaceAll(README.iface, stage.bed.iface);
  return shell(here, { natsUrl: stage.agent.natsUrl, cwd: folder });
}

function likeReadme(output: string): string {
  return output.replaceAll(stage.bed.iface, README.iface).replaceAll(stage.bpffs, README.bpffs);
}

/**
 * The line without everything that differs between runs: ids, digests, times, rates, and the widths that depend on
 * them.
 */
function still(line: string): string {
  return line
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '<id>')
    .replaceAll(/\b[0-9a-f]{16}\b/g, '<digest>')
    .replaceAll(/\b(prog|slot|link|program) \d+/g, '$1 <number>')
    .replaceAll(/[\d,]+(?= (ms|ns|packets?)\b)/g, '<number>')
    .replaceAll(/ packets?\b/g, ' packets')
    .replaceAll(/─+/g, '─')
    .replaceAll(/ +/g, ' ');
}
