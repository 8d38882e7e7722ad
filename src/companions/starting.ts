import type { CompanionLaunch } from '../domain/companion.js';
import { attachPointOf, isTracing } from '../domain/hook.js';
import { AgentError } from '../errors.js';
import { hookArguments, startArguments, versionArgument } from './arguments.js';
import type { Commands } from './commands.js';
import type { Ending, Instance } from './instance.js';
import { writeRules } from './rules.js';
import { endProcesses, gone, type Target } from './terminate.js';
import type { CompanionTimes } from './times.js';
import { unrecordedInstances } from './unrecorded.js';

/** The handover slot of a companion that loads its program itself; see `Loading` in apply/tools.ts. */
export interface HandoverSlot {
  readonly dir: string;
  readonly slot: string;
  isFilled(): Promise<boolean>;
}

/** What a start needs from the agent. */
export interface StartContext {
  readonly times: CompanionTimes;
  readonly commands: Commands;
  /** '' for none. */
  readonly logDir: string;
  /** Whether a control group limits its memory. If not, its address space is limited. */
  readonly limitsMemory: boolean;
  /** All companions of this agent, including this one. */
  readonly recorded: readonly Target[];
}

/**
 * Starts a companion whose record is written, and waits until it is ready: its process has settled or ended
 * successfully, its program is loaded if it loads one itself, it has its configuration, and `cmd_status` says that it
 * is running.
 *
 * @throws AgentError COMPANION_FAILED
 */
export async function startUp(instance: Instance, surroundings: StartContext, loading?: HandoverSlot): Promise<void> {
  const { cmdStart, daemon, updateArgs } = instance.record.launch.companion;
  const { commands, times } = surroundings;
  if (cmdStart !== '') await run(instance, surroundings, loading);
  if (loading !== undefined) await untilLoaded(instance, loading, times);
  if (Object.keys(updateArgs).length > 0) await commands.update(instance.record);
  await commands.config(instance.record);
  if (cmdStart !== '' && daemon) await untilRunning(instance, surroundings);
}

/**
 * What the option parsers of glibc, musl, Go and Python print for an unknown option. Companions in L3AF's first
 * packages do not know this option, since the l3afd of that time did not pass it.
 */
const KNOWS_NO_VERSION =
  /(?:unrecognized (?:option|arguments)|unknown (?:option|flag)|not defined)[^A-Za-z0-9]*version\b/i;

/** Runs `cmd_start`: waits until a daemon has settled, or until any other companion has ended. */
async function run(instance: Instance, surroundings: StartContext, loading: HandoverSlot | undefined): Promise<void> {
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
  const what = daemon ? `${cmdStart} is a daemon but ended at once` : `${cmdStart} failed`;
  // A companion that a signal has ended may not have tried to load its program.
  const isEmpty = loading !== undefined && typeof end?.code === 'number' && !(await loading.isFilled());
  throw failed(instance, `${what}: ${end?.words ?? limit}${isEmpty ? emptySlot(launch) : ''}`);
}

/** A hint for a common cause, which companions themselves rarely report: they only see that the kernel refuses. */
function emptySlot({ hook }: CompanionLaunch): string {
  if (isTracing(hook)) return '';
  const { programs } = attachPointOf(hook);
  return `. It has not put a program into the slot given by --map-name; that slot takes only ${programs}, and all with the same setting of xdp.frags`;
}

/** Waits until a companion has put its program into its slot. One that is not a daemon has already ended. */
async function untilLoaded(instance: Instance, loading: HandoverSlot, { readyMs }: CompanionTimes): Promise<void> {
  const { daemon, cmdStart } = instance.record.launch.companion;
  const isOver = async () => (await loading.isFilled()) || (daemon && !(await instance.alive()));
  await gone(async () => ((await isOver()) ? [] : ['no program']), daemon ? readyMs : 0);
  if (await loading.isFilled()) return;
  await instance.drain();
  const when = (await instance.alive()) ? ` within ${readyMs / 1000} s` : ', and has ended';
  const message = `${cmdStart} has not put its program into the slot given by --map-name${when}`;
  throw failed(instance, `${message}; it has to do so, because the payload has no object_file`);
}

/** Waits until `cmd_status`, if there is one, says that a daemon is running. Fails if the daemon ends. */
async function untilRunning(instance: Instance, { commands, times }: StartContext): Promise<void> {
  const { cmdStart, cmdStatus } = instance.record.launch.companion;
  const ready = async () => ((await commands.status(instance.record)) === false ? ['not ready'] : []);
  const came = await gone(async () => ((await instance.alive()) ? ready() : []), times.readyMs);
  if (came && (await instance.alive())) return;
  await instance.drain();
  if (came) throw failed(instance, `${cmdStart} ended before its start was complete`);
  throw failed(instance, `${cmdStatus} has not said RUNNING within ${times.readyMs / 1000} s`, 'cmd_status');
}

function failed(instance: Instance, message: string, path = 'cmd_start'): AgentError {
  return new AgentError('COMPANION_FAILED', message, { path, detail: instance.lastLines.join('\n') });
}
