#!/usr/bin/env node
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Command, Option } from 'commander';
import { type Config, describeConfig, loadConfig, SETTINGS } from './config.js';
import { type Finding, probeBroker, renderProbes } from './daemon/check.js';
import { Daemon } from './daemon/daemon.js';
import { PROJECT_ROOT } from './daemon/roots.js';
import type { Datapath } from './datapath/datapath.js';
import { LibbpfDatapath } from './datapath/libbpf/datapath.js';
import { detectFeatures, requireBpf } from './datapath/libbpf/diagnostics/features.js';
import { ObjectLoader } from './datapath/libbpf/objects/loader.js';
import { ensureBpffs } from './datapath/libbpf/pins/bpffs.js';
import { interfacesOfMachine } from './datapath/machine.js';
import { MemoryDatapath } from './datapath/memory/datapath.js';
import { AgentError, type ErrorCode, machineError } from './errors.js';
import { createLogger } from './telemetry/log.js';

/**
 * Exit statuses of sysexits(3). After 64 (wrong usage) and 78 (wrong configuration) the systemd unit does not restart.
 * 69 means that something is missing.
 */
const USAGE_STATUS = 64;
const EXIT_STATUS: Partial<Record<ErrorCode, number>> = { CONFIG_INVALID: 78, NO_PRIVILEGE: 77, DUPLICATE_HOST: 69 };

const version = (JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string }).version;

const program = new Command('l3af-agent')
  .description('Takes commands for this host from NATS and keeps its chains of eBPF programs in the desired state.')
  .version(version)
  .showHelpAfterError('(see l3af-agent --help)')
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : USAGE_STATUS));

withSettings(program.command('run'))
  .description('run the agent in the foreground')
  .addOption(new Option('--detach-on-exit', 'take the datapath down when the agent stops'))
  .addHelpText('after', '\nWithout --nats-url the agent starts an embedded nats-server and prints its URL.')
  .action(run);

withSettings(program.command('check'))
  .description('find out by trying what this machine supports')
  .option('--json', 'as JSON')
  .action(check);

withSettings(program.command('config'))
  .description('show the effective configuration and the origin of each value')
  .option('--json', 'as JSON')
  .action(showConfig);

for (const command of [program, ...program.commands]) {
  const words = command === program ? program.name() : `${program.name()} ${command.name()}`;
  command.configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, `${words}: `)) });
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader has closed the pipe: `l3af-agent config | head`.
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  const known = error instanceof AgentError ? error : machineError(error);
  if (known === undefined) throw error;
  process.stderr.write(`l3af-agent: ${known.code}: ${known.message}\n`);
  process.exitCode = EXIT_STATUS[known.code] ?? 1;
}

function withSettings(command: Command): Command {
  for (const { flag, placeholder, description, default: standard, absent, env } of SETTINGS) {
    command.option(`${flag} <${placeholder}>`, `${description} (${standard ?? absent}; ${env})`);
  }
  return command;
}

async function run(flags: Record<string, unknown>): Promise<void> {
  const { config } = loadConfig({ flags, env: process.env });
  const log = createLogger({ level: config.logLevel, host: config.hostName });
  const datapath = await openDatapath(config);
  // Until the process ends.
  if (config.runStats) await datapath.countRuns();
  const detectFeatures = () => featuresOf(config);
  const daemon = new Daemon({
    config,
    version,
    log,
    datapath,
    detectFeatures,
    onFatal: (error) => void stop('failure', error),
  });
  let stopping = false;
  const stop = async (reason: string, error?: unknown) => {
    if (stopping) return;
    stopping = true;
    log.info({ reason }, 'stopping');
    await daemon.stop(flags.detachOnExit === true).catch((failure: unknown) => {
      log.error({ err: failure }, 'could not stop cleanly');
      error ??= failure;
    });
    const status = error instanceof AgentError ? EXIT_STATUS[error.code] : undefined;
    // A library that still holds something open must not keep a stopped agent alive.
    process.exit(error === undefined ? 0 : (status ?? 1));
  };
  // With `on`, not `once`, so that another signal does not interrupt the stop.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(signal));
  log.info({ version, pid: process.pid, datapath: datapath.kind, state_dir: config.stateDir }, 'starting');
  await daemon.start();
}

async function openDatapath({ datapath, bpffs, maxMapBytes, xdpMode, tcMode }: Config): Promise<Datapath> {
  if (datapath === 'memory')
    return new MemoryDatapath({ bpffs, maxMapBytes, interfaces: interfacesOfMachine(), xdp: xdpMode });
  requireBpf();
  ensureBpffs(bpffs);
  return new LibbpfDatapath({ bpffs, maxMapBytes, loader: new ObjectLoader(), xdp: xdpMode, tc: tcMode });
}

/**
 * Features of the kernel, by name. Another process tries them out in a network namespace of its own, which ends with
 * it. So an agent that is killed meanwhile leaves no interface behind.
 */
async function featuresOf({ datapath, bpffs }: Config): Promise<Record<string, boolean>> {
  if (datapath === 'memory') return {};
  const command = [process.execPath, import.meta.filename, 'check', '--json', '--bpffs', bpffs];
  const { stdout } = await promisify(execFile)('unshare', ['--net', ...command], { env: { PATH: process.env.PATH } });
  const findings = (JSON.parse(stdout) as Finding[]).filter(({ name }) => name !== 'kernel' && name !== 'broker');
  return Object.fromEntries(findings.map(({ name, ok }) => [name, ok]));
}

async function check(flags: Record<string, unknown>): Promise<void> {
  const { config } = loadConfig({ flags, env: process.env });
  const probes = [
    { name: 'kernel', ok: true, reason: release() },
    ...(await detectFeatures({ bpffs: config.bpffs })),
    await probeBroker(config),
  ];
  process.stdout.write(flags.json === true ? `${JSON.stringify(probes, null, 2)}\n` : renderProbes(probes));
}

function showConfig(flags: Record<string, unknown>): void {
  const settings = describeConfig(loadConfig({ flags, env: process.env }));
  if (flags.json === true) {
    process.stdout.write(`${JSON.stringify(settings, null, 2)}\n`);
    return;
  }
  const [name, value] = (['setting', 'value'] as const).map((key) =>
    Math.max(...settings.map((row) => (row[key] ?? '-').length)),
  );
  for (const row of settings) {
    process.stdout.write(`${row.setting.padEnd(name!)}  ${(row.value ?? '-').padEnd(value!)}  ${row.source}\n`);
  }
}
