import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { currentServer } from '../support/nats.js';
import { PROJECT_ROOT } from '../support/project.js';
import { RUN_FOLDER_PREFIX } from '../support/this-run.js';
import { furtherPasses, type Pass } from './brokers.js';
import type { Outcome } from './outcome-reporter.js';
import { type Machine, readMachine, residueSince, takeDown } from './residue.js';
import { select, testsBelow } from './selection.js';

/*
 * Runs each test file in its own process, sums up the outcomes, and checks that the machine is afterwards as it was
 * before.
 */

const USAGE = `Usage: npm test -- [options] [test ...]

Runs the tests with the given paths below test/. The beginning of a path selects all tests that match:
unit, integration/datapath, test/e2e/chains/kill.test.ts. Without a path, runs all tests except test/soak.

  --name <pattern>   run only tests whose name matches the regular expression; may be repeated
  --watch            run again when a source file changes; tests start the agent of the last build
  --coverage         show which lines of src the tests have run
  --full             run as long and as often as in CI, like npm run test:full; tests of the bus also against
                     a current nats-server and a cluster of three
  --help             show this help
`;

/** More than there are cores, since tests mostly wait. */
const FILES_AT_A_TIME = 5;
/**
 * When a file counts as hung, in milliseconds. Several times what the longest takes here, so that a slower machine is
 * not a failure.
 */
const HUNG_AFTER_MS = { usual: 600_000, full: 1_800_000, soak: 86_400_000 };
const SLOWEST = 20;
/** Exit status that shells use after Ctrl-C. */
const INTERRUPTED = 130;

const DIST = join(PROJECT_ROOT, 'dist');
/** The tests that need root and a kernel with BPF, by the beginnings of their paths. */
const NEED_PRIVILEGES = [
  'e2e',
  'fault/kernel',
  'integration/companions/control-groups',
  'integration/datapath/libbpf',
  'integration/datapath/testbed',
  'integration/native',
  'property/kernel',
];

interface Options {
  readonly names: readonly string[];
  readonly watch: boolean;
  readonly coverage: boolean;
  readonly full: boolean;
}

function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: 'string', multiple: true, default: [] },
      watch: { type: 'boolean', default: false },
      coverage: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return Promise.resolve(0);
  }
  const tests = filesFor(positionals);
  const options = { names: values.name, watch: values.watch, coverage: values.coverage, full: values.full };
  if (options.watch) return watch(tests.map(compiled), options);
  // Single tests run once, unless all is asked for.
  const passes = positionals.length > 0 && !options.full ? [] : furtherPasses(tests, options.full);
  return runAll(tests, passes, options);
}

/** @returns the exit status: that of the first run that has failed */
async function runAll(tests: readonly string[], passes: readonly Pass[], options: Options): Promise<number> {
  let status = await runOnce(tests.map(compiled), options);
  for (const { broker, tests: again } of passes) {
    if (status === INTERRUPTED) break;
    process.stdout.write(`\nℹ once more against ${BROKERS[broker]}: ${again.join(' ')}\n`);
    const other = await runOnce(again.map(compiled), options, environmentOf(broker));
    if (status === 0 || other === INTERRUPTED) status = other;
  }
  return status;
}

const BROKERS = { current: 'a current nats-server', cluster: 'a cluster of three current servers' } as const;

/** An agent's own broker is found on the PATH. */
function environmentOf(broker: Pass['broker']): Record<string, string> {
  const path = broker === 'current' ? { PATH: `${dirname(currentServer())}:${process.env.PATH ?? ''}` } : {};
  return { L3AF_TEST_BROKER: broker, ...path };
}

function compiled(test: string): string {
  return join(DIST, 'test', `${test}.test.js`);
}

/** @throws Error for a word that matches no test, and in CI on a machine that cannot run all tests */
function filesFor(words: readonly string[]): string[] {
  const tests = testsBelow(join(DIST, 'test'));
  if (words.length > 0) return select(tests, words);
  if (canRunAll()) return tests.filter((test) => !test.startsWith('soak/'));
  if (process.env.CI === 'true') {
    throw new Error('CI must run the kernel tests, and they need root and a kernel with BPF.');
  }
  process.stdout.write('Not root, or the kernel has no BPF: running only the tests that need neither.\n');
  const privileged = new Set(select(tests, NEED_PRIVILEGES));
  return tests.filter((test) => !privileged.has(test) && !test.startsWith('soak/'));
}

function canRunAll(): boolean {
  return process.getuid?.() === 0 && existsSync('/sys/fs/bpf');
}

async function runOnce(
  files: readonly string[],
  options: Options,
  env: Readonly<Record<string, string>> = {},
): Promise<number> {
  const before = canRunAll() ? readMachine() : undefined;
  // Everything that this run makes is below it, so that its leftovers can be told from those of others.
  const folder = mkdtempSync(join(tmpdir(), RUN_FOLDER_PREFIX));
  const outcomePath = join(folder, 'outcome.json');
  const status = await runTests(files, options, env, folder, outcomePath);
  if (status === INTERRUPTED) {
    await takeDown(folder);
    return status;
  }
  const outcome = existsSync(outcomePath) ? (JSON.parse(readFileSync(outcomePath, 'utf8')) as Outcome) : undefined;
  rmSync(outcomePath, { force: true });

  const faults = [...faultsOf(outcome, options), ...(await leftovers(folder, before))];
  for (const fault of faults) process.stdout.write(`✖ ${fault}\n`);
  if (faults.length === 0) rmSync(folder, { recursive: true });
  return status === 0 && faults.length > 0 ? 1 : status;
}

/** @returns the exit status */
async function runTests(
  files: readonly string[],
  { names, coverage, full }: Options,
  more: Readonly<Record<string, string>>,
  folder: string,
  outcomePath: string,
): Promise<number> {
  const reporters = ['spec', join(DIST, 'test', 'run', 'outcome-reporter.js')];
  const node = [
    process.execPath,
    ...nodeOptions(files, full),
    ...names.map((name) => `--test-name-pattern=${name}`),
    ...reporters.flatMap((name) => [`--test-reporter=${name}`, '--test-reporter-destination=stdout']),
    ...files,
  ];
  const [command, ...args] = coverage ? [...coverageCommand(), ...node] : node;
  const env = {
    ...process.env,
    ...more,
    TMPDIR: folder,
    L3AF_TEST_OUTCOME: outcomePath,
    ...(full && { L3AF_TEST_LENGTH: 'full' }),
    // Since Node.js 22, processes can share compiled code.
    ...(!coverage && { NODE_COMPILE_CACHE: join(DIST, '.compile-cache') }),
  };
  const child = spawn(command!, args, { stdio: 'inherit', cwd: PROJECT_ROOT, env });
  // Ctrl-C goes to the tests as well, which then clean up what they have set up.
  let isInterrupted = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      isInterrupted = true;
      child.kill(signal);
    });
  }
  const [code] = (await once(child, 'close')) as [number | null];
  return isInterrupted ? INTERRUPTED : (code ?? 1);
}

function nodeOptions(files: readonly string[], isFull: boolean): string[] {
  const isSoak = files.some((file) => file.startsWith(join(DIST, 'test', 'soak')));
  const length = isSoak ? 'soak' : isFull ? 'full' : 'usual';
  return [
    '--enable-source-maps',
    '--expose-gc',
    '--test',
    `--test-concurrency=${FILES_AT_A_TIME}`,
    `--test-timeout=${HUNG_AFTER_MS[length]}`,
  ];
}

/** Tests start agents as separate processes, and c8 counts the lines that those run too. */
function coverageCommand(): string[] {
  const c8 = join(PROJECT_ROOT, 'node_modules', '.bin', 'c8');
  return [
    c8,
    '--clean',
    '--all',
    '--exclude-after-remap',
    '--src=src',
    '--include=src/**',
    '--reporter=text',
    '--reporter=html',
    '--reports-dir=dist/coverage',
  ];
}

/** Compiles when sources change. Node runs the tests whose files have changed. */
async function watch(files: readonly string[], { names, full }: Options): Promise<number> {
  const compiler = spawn(
    join(PROJECT_ROOT, 'node_modules', '.bin', 'tsc'),
    ['-p', '.', '--watch', '--preserveWatchOutput'],
    {
      stdio: 'inherit',
      cwd: PROJECT_ROOT,
    },
  );
  const patterns = names.map((name) => `--test-name-pattern=${name}`);
  const tests = spawn(
    process.execPath,
    [...nodeOptions(files, full), '--test-reporter=spec', '--watch', ...patterns, ...files],
    {
      stdio: 'inherit',
    },
  );
  const [code] = (await Promise.race([once(tests, 'close'), once(compiler, 'close')])) as [number | null];
  compiler.kill();
  tests.kill();
  return code ?? 1;
}

/** What is wrong with a run although no test has failed. Also prints the slowest tests. */
function faultsOf(outcome: Outcome | undefined, { names }: Options): string[] {
  if (outcome === undefined) return ['The test process ended without writing an outcome'];
  const { count, skipped, slowest } = outcome;
  if (slowest.length > SLOWEST) {
    process.stdout.write(`\nSlowest, in seconds:\n`);
    for (const { name, file, seconds } of slowest.slice(0, SLOWEST)) {
      process.stdout.write(`${seconds.toFixed(1).padStart(6)}  ${file.slice(file.indexOf('test/'))}: ${name}\n`);
    }
  }
  if (names.length > 0)
    return count - skipped.length > 0 ? [] : [`No test has a name that matches ${names.join(' or ')}`];
  if (count === 0) return ['No test has run'];
  const words = skipped.map(({ name, file, reason }) => `Skipped: ${file}: ${name} (${reason})`);
  if (process.env.CI === 'true') return words;
  for (const line of words) process.stdout.write(`${line}\n`);
  return [];
}

/** What the run has left on the machine and in its own folder. */
async function leftovers(folder: string, before: Machine | undefined): Promise<string[]> {
  const residue = before === undefined ? undefined : await residueSince(before, folder);
  const files = readdirSync(folder).map((name) => `Left behind: ${join(folder, name)}`);
  if (before === undefined || residue === undefined) return files;
  const { left, notes } = residue;
  for (const note of notes) process.stdout.write(`ℹ ${note}\n`);
  process.stdout.write(`ℹ kernel before: ${before.summary}\nℹ kernel after: ${readMachine().summary}\n`);
  return [...files, ...left.map((what) => `Left behind: ${what}`)];
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
