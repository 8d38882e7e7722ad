import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import {
  type CompanionLaunch,
  type CompanionRef,
  companionKey,
  type ObservedCompanion,
  wantsConfig,
  wantsUpdate,
} from '../domain/companion.js';
import { AgentError } from '../errors.js';
import { hookArguments, startArguments, stopArguments } from './arguments.js';
import { CgroupTree, removeGroup } from './cgroup.js';
import { Commands } from './commands.js';
import { Instance, type InstanceLog } from './instance.js';
import { type CommandPaths, locateCommands, type PackageFiles } from './locate.js';
import { bootId } from './proc.js';
import { type CompanionRecord, readRecord } from './record.js';
import { writeRules } from './rules.js';
import { commandsOf, endProcesses, gone, processesOf, unrecordedInstances } from './terminate.js';
import { type CompanionTimes, TIMES } from './times.js';

export interface CompanionsOptions {
  /** A folder of their own. */
  readonly dir: string;
  readonly packages: PackageFiles;
  readonly log: InstanceLog;
  /** Handed to companions as `--log-dir`; '' for none. */
  readonly logDir?: string;
  readonly times?: Partial<CompanionTimes>;
  /** Where control groups can be made; found out by trying unless given. */
  readonly findCgroups?: () => Promise<CgroupTree | undefined>;
}

const NO_PATIENCE = { stopMs: 0 };

/**
 * The companions of this host's programs: starts, updates and stops them, and knows those again that an agent before this one has started.
 * All methods but {@link status} are for one caller at a time.
 */
export class Companions {
  readonly #options: CompanionsOptions;
  readonly #times: CompanionTimes;
  readonly #commands: Commands;
  /** By {@link companionKey}. */
  readonly #instances = new Map<string, Instance>();
  #cgroups: CgroupTree | undefined;
  #bootId = '';

  constructor(options: CompanionsOptions) {
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
    this.#commands = new Commands({ log: options.log, logDir: options.logDir ?? '', times: this.#times });
  }

  /** Takes over what an earlier agent has left running, and ends what it has left half-started. */
  async open(): Promise<void> {
    const { dir } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    this.#bootId = await bootId();
    this.#cgroups = await (this.#options.findCgroups ?? CgroupTree.find)();
    for (const id of await readdir(dir)) {
      // One that cannot be ended must not keep the agent from the chains; its folder stays for the next agent.
      await this.#adopt(id).catch((error: unknown) => {
        this.#options.log.warn({ err: error, companion: id }, 'a companion that was left behind cannot be taken over');
      });
    }
  }

  /** Lets go of the companions; they run on. */
  async close(): Promise<void> {
    for (const instance of this.#instances.values()) await instance.release();
    this.#instances.clear();
    await this.#cgroups?.close();
  }

  async observe(): Promise<readonly ObservedCompanion[]> {
    return Promise.all([...this.#instances.values()].map((instance) => this.#look(instance)));
  }

  /**
   * Whether a package has everything that a companion is started with, without starting anything.
   *
   * @throws AgentError COMPANION_NOT_FOUND with the field of the payload, and what fetching the package may throw
   */
  async check(launch: CompanionLaunch): Promise<void> {
    await locateCommands(launch, this.#options.packages);
  }

  /**
   * Starts a companion in place of whatever instance of it there is. When this returns, a daemon has lived through its settling time, and
   * anything else has run to its end.
   *
   * @param maps kernel ids of its program's maps
   * @param restarts how often it was started again because it had ended
   * @throws AgentError COMPANION_FAILED or COMPANION_NOT_FOUND; then nothing of it is left
   */
  async start(launch: CompanionLaunch, maps: readonly number[], restarts: number): Promise<void> {
    const programs = await locateCommands(launch, this.#options.packages);
    await this.#end(launch);
    const instance = await this.#instanceOf(launch, programs, maps, restarts);
    this.#instances.set(companionKey(launch), instance);
    try {
      await instance.create();
      await instance.follow();
      const { cmdStart, daemon } = launch.companion;
      if (cmdStart !== '') await this.#run(instance);
      if (Object.keys(launch.companion.updateArgs).length > 0) await this.#commands.update(instance.record);
      await this.#commands.config(instance.record);
      if (cmdStart !== '' && daemon) await this.#untilRunning(instance);
      await instance.amend({ phase: cmdStart !== '' && daemon ? 'running' : 'done' });
    } catch (error) {
      await this.#discard(instance);
      throw error;
    }
  }

  /**
   * Stops a companion by its own command or by SIGTERM, and kills what does not heed it. When this returns it is gone, with all of its
   * processes. One that does not run is no error.
   *
   * @throws AgentError LEFTOVER
   */
  async stop(launch: CompanionLaunch): Promise<void> {
    const instance = this.#instances.get(companionKey(launch));
    if (instance === undefined) return;
    const { record } = instance;
    const session = (await instance.alive()) ? record.process?.pid : undefined;
    const asked = await this.#commands.stop(record, stopArguments(record.launch));
    if (asked) await gone(() => processesOf(record, session), this.#times.stopMs);
    await instance.terminate(asked ? { ...this.#times, ...NO_PATIENCE } : this.#times);
    this.#instances.delete(companionKey(launch));
    await instance.remove();
  }

  /**
   * Gives a companion that goes on other arguments than those that it was started with: runs `cmd_update` and `cmd_config` where theirs
   * differ.
   *
   * @throws AgentError COMPANION_FAILED or COMPANION_NOT_FOUND
   */
  async update(from: CompanionLaunch, to: CompanionLaunch): Promise<void> {
    const instance = this.#instances.get(companionKey(to));
    if (instance === undefined) throw new AgentError('COMPANION_FAILED', 'The companion to be updated is not there');
    const next = { ...instance.record, launch: to, programs: await locateCommands(to, this.#options.packages) };
    if (wantsUpdate(from, to)) await this.#commands.update(next);
    if (wantsConfig(from, to)) await this.#commands.config(next);
    await instance.amend({ launch: to, programs: next.programs });
  }

  /**
   * What `cmd_status` says of a companion, or where there is none, whether its process is alive.
   *
   * @returns undefined for one that is not there
   */
  async status(companion: CompanionRef): Promise<'running' | 'not running' | undefined> {
    const instance = this.#instances.get(companionKey(companion));
    if (instance === undefined) return undefined;
    const said = await this.#commands.status(instance.record);
    const running = said ?? (instance.record.phase === 'done' || (await instance.alive()));
    return running ? 'running' : 'not running';
  }

  async #look(instance: Instance): Promise<ObservedCompanion> {
    const { launch, maps, restarts, phase, process } = instance.record;
    const alive = await instance.alive();
    const state = phase === 'done' ? 'done' : alive && phase === 'running' ? 'running' : 'ended';
    return { launch, maps, restarts, state, pid: alive ? process?.pid : undefined };
  }

  async #adopt(id: string): Promise<void> {
    const { dir, log } = this.#options;
    const folder = join(dir, id);
    const record = await readRecord(folder);
    const known = record !== undefined && record.bootId === this.#bootId && record.id === id;
    if (!known) {
      // Whatever it was, its processes are known by their environment, and are of no use without a record.
      const cgroup = this.#cgroups?.path(id) ?? '';
      await endProcesses(await processesOf({ id, cgroup }, undefined), { ...this.#times, ...NO_PATIENCE });
      await removeGroup(cgroup);
      await rm(folder, { recursive: true, force: true });
      return;
    }
    const instance = new Instance(folder, record, log);
    const key = companionKey(record.launch);
    if (record.phase === 'starting' || this.#instances.has(key)) return this.#discard(instance);
    const alive = await instance.alive();
    await endProcesses(await commandsOf(id), { ...this.#times, ...NO_PATIENCE });
    if (record.phase === 'running' && !alive) await instance.terminate({ ...this.#times, ...NO_PATIENCE });
    await instance.follow();
    this.#instances.set(key, instance);
    const fields = { program: record.launch.package.name, ...record.launch.hook, pid: record.process?.pid };
    if (alive) log.info(fields, 'adopted companion');
    else if (record.phase === 'running') log.warn(fields, 'a companion has ended while there was no agent');
  }

  async #instanceOf(
    launch: CompanionLaunch,
    programs: CommandPaths,
    maps: readonly number[],
    restarts: number,
  ): Promise<Instance> {
    const { dir, log } = this.#options;
    const id = randomBytes(8).toString('hex');
    const cgroup = (await this.#cgroups?.make(id, launch.companion.memoryBytes)) ?? '';
    const record: CompanionRecord = {
      id,
      launch,
      programs,
      maps: maps.toSorted((a, b) => a - b),
      restarts,
      bootId: this.#bootId,
      phase: 'starting',
      process: null,
      cgroup,
    };
    return new Instance(resolve(dir, id), record, log);
  }

  /** Runs `cmd_start`: a daemon until it has settled, anything else to its end. */
  async #run(instance: Instance): Promise<void> {
    const { launch, programs, cgroup } = instance.record;
    const { daemon, cmdStart, memoryBytes, cpuSeconds } = launch.companion;
    const program = programs.start ?? '';
    const known = new Set([...this.#instances.values()].map(({ record }) => record.id));
    await endProcesses(await unrecordedInstances(program, hookArguments(launch), known), this.#times);
    const rulesFile = await writeRules(program, launch);
    const args = startArguments(launch, { logDir: this.#options.logDir ?? '', rulesFile });
    const addressSpace = this.#cgroups?.limitsMemory === true ? 0 : memoryBytes;
    await instance.run({ program, args, cgroup, addressSpace, cpuSeconds });
    const end = await instance.endWithin(daemon ? this.#times.settleMs : this.#times.commandMs);
    await instance.drain();
    if (daemon ? end === undefined : end?.code === 0) return;
    const limit = daemon ? '' : `no end within ${this.#times.commandMs / 1000} s`;
    const what = daemon ? `${cmdStart} is to keep running and ended at once` : `${cmdStart} failed`;
    throw new AgentError('COMPANION_FAILED', `${what}: ${end?.words ?? limit}`, {
      path: 'cmd_start',
      detail: instance.lastLines.join('\n'),
    });
  }

  /** Waits until `cmd_status`, where there is one, says that a daemon is ready; it may end meanwhile. */
  async #untilRunning(instance: Instance): Promise<void> {
    const { cmdStart, cmdStatus } = instance.record.launch.companion;
    const ready = async () => ((await this.#commands.status(instance.record)) === false ? ['not ready'] : []);
    const came = await gone(async () => ((await instance.alive()) ? ready() : []), this.#times.readyMs);
    if (came && (await instance.alive())) return;
    await instance.drain();
    const [message, path] = came
      ? [`${cmdStart} ended while it was being set up`, 'cmd_start']
      : [`${cmdStatus} has not said RUNNING within ${this.#times.readyMs / 1000} s`, 'cmd_status'];
    throw new AgentError('COMPANION_FAILED', message, { path, detail: instance.lastLines.join('\n') });
  }

  async #end(launch: CompanionLaunch): Promise<void> {
    const instance = this.#instances.get(companionKey(launch));
    if (instance === undefined) return;
    await instance.terminate(this.#times);
    this.#instances.delete(companionKey(launch));
    await instance.remove();
  }

  /** Ends at once what has come to nothing. */
  async #discard(instance: Instance): Promise<void> {
    await instance.terminate({ ...this.#times, ...NO_PATIENCE });
    const key = companionKey(instance.record.launch);
    if (this.#instances.get(key) === instance) this.#instances.delete(key);
    await instance.remove();
  }
}
