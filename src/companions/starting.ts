import type { CompanionLaunch } from '../domain/companion.js';
import { AgentError } from '../errors.js';
import { hookArguments, startArguments, versionArgument } from './arguments.js';
import type { Commands } from './commands.js';
import type { Ending, Instance } from './instance.js';
import { writeRules } from './rules.js';
import { endProcesses, gone, type Target } from './terminate.js';
import type { CompanionTimes } from './times.js';
import { unrecordedInstances } from './unrecorded.js';

/** What a companion is given that loads its program itself; see `Loading` of apply/tools.ts. */
export interface Loading {
  readonly dir: string;
  readonly slot: string;
  isFilled(): Promise<boolean>;
}

export interface Surroundings {
  readonly times: CompanionTimes;
  readonly commands: Commands;
  /** '' for none. */
  readonly logDir: string;
  /** Whether a control group limits its memory, so that its address space need not be. */
  readonly limitsMemory: boolean;
  /** The companions of this agent, this one included. */
  readonly recorded: readonly Target[];
}

/**
 * Starts a companion whose record is written, and sees it well: its process has settled or ended as it should, its program is loaded where
 * that is its business, it knows its arguments, and it says that it is running.
 *
 * @throws AgentError COMPANION_FAILED
 */
export async function startUp(instance: Instance, surroundings: Surroundings, loading?: Loading): Promise<void> {
  const { cmdStart, daemon, updateArgs } = instance.record.launch.companion;
  const { commands, times } = surroundings;
  if (cmdStart !== '') await run(instance, surroundings, loading);
  if (loading !== undefined) await untilLoaded(instance, loading, times);
  if (Object.keys(updateArgs).length > 0) await commands.update(instance.record);
  await commands.config(instance.record);
  if (cmdStart !== '' && daemon) await untilRunning(instance, surroundings);
}

/**
 * What the option parsers of glibc, musl, Go and Python say of an option that they do not know. Companions of L3AF's first packages do not
 * know this one, since the l3afd of their time did not give it.
 */
const KNOWS_NO_VERSION =
  /(?:unrecognized (?:option|arguments)|unknown (?:option|flag)|not defined)[^A-Za-z0-9]*version\b/i;

/** Runs `cmd_start`: a daemon until it has settled, anything else to its end. */
async function run(instance: Instance, surroundings: Surroundings, loading: Loading | undefined): Promise<void> {
  const { times, logDir, limitsMemory, recorded } = surroundings;
  const { launch, programs, cgroup } = instance.record;
  const { daemon, cmdStart, memoryBytes, cpuSeconds } = launch.companion;
  const program = programs.start ?? '';
  await endProcesses(await unrecordedInstances(program, hookArguments(launch), recorded), times);
  const rulesFile = await writeRules(program, launch);
  const addressSpace = limitsMemory ? 0 : memoryBytes;
  const begin = async (args: readonly string[]): Promise<Ending | undefined> => {
    await instance.run({ program, args, cgroup, addressSpace, cpuSeconds });
    const end = await instance.endWithin(daemon ? times.settleMs : times.commandMs);
    await instance.drain();
    return end;
  };
  const isWell = (end: Ending | undefined) => (daemon ? end === undefined : end?.code === 0);
  const args = startArguments(launch, { logDir, rulesFile, slot: loading?.slot ?? '' });
  let end = await begin(args);
  if (end !== undefined && !isWell(end) && instance.lastLines.some((line) => KNOWS_NO_VERSION.test(line))) {
    const own = versionArgument(launch);
    end = await begin(args.filter((arg) => arg !== own));
  }
  if (isWell(end)) return;
  const limit = daemon ? '' : `no end within ${times.commandMs / 1000} s`;
  const what = daemon ? `${cmdStart} is to keep running and ended at once` : `${cmdStart} failed`;
  // One that a signal has ended had not come to that.
  const isEmpty = loading !== undefined && typeof end?.code === 'number' && !(await loading.isFilled());
  throw failed(instance, `${what}: ${end?.words ?? limit}${isEmpty ? emptySlot(launch) : ''}`);
}

/** What its own words do not say as a rule: all it knows is that the kernel has refused the program. */
function emptySlot({ hook }: CompanionLaunch): string {
  const kind =
    hook.direction === 'xdpingress'
      ? 'XDP programs with the expected attach type BPF_XDP'
      : 'TC programs with the expected attach type 0';
  return `. It has put no program into the slot that --map-name tells it; there the kernel takes only ${kind}, and alike in xdp.frags`;
}

/** Waits until a companion has put its program into the slot that it was given. One that runs once has ended by then. */
async function untilLoaded(instance: Instance, loading: Loading, { readyMs }: CompanionTimes): Promise<void> {
  const { daemon, cmdStart } = instance.record.launch.companion;
  const isOver = async () => (await loading.isFilled()) || (daemon && !(await instance.alive()));
  await gone(async () => ((await isOver()) ? [] : ['no program']), daemon ? readyMs : 0);
  if (await loading.isFilled()) return;
  await instance.drain();
  const when = (await instance.alive()) ? ` within ${readyMs / 1000} s` : ', and has ended';
  const message = `${cmdStart} has not put its program into the slot that --map-name tells it${when}`;
  throw failed(instance, `${message}; without object_file, that is what it has to do`);
}

/** Waits until `cmd_status`, where there is one, says that a daemon is ready; it may end meanwhile. */
async function untilRunning(instance: Instance, { commands, times }: Surroundings): Promise<void> {
  const { cmdStart, cmdStatus } = instance.record.launch.companion;
  const ready = async () => ((await commands.status(instance.record)) === false ? ['not ready'] : []);
  const came = await gone(async () => ((await instance.alive()) ? ready() : []), times.readyMs);
  if (came && (await instance.alive())) return;
  await instance.drain();
  if (came) throw failed(instance, `${cmdStart} ended while it was being set up`);
  throw failed(instance, `${cmdStatus} has not said RUNNING within ${times.readyMs / 1000} s`, 'cmd_status');
}

function failed(instance: Instance, message: string, path = 'cmd_start'): AgentError {
  return new AgentError('COMPANION_FAILED', message, { path, detail: instance.lastLines.join('\n') });
}
