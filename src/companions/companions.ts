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
import { AgentError, blamingDisk } from '../errors.js';
import { stopArguments } from './arguments.js';
import { CgroupTree, removeGroup } from './cgroup.js';
import { Commands } from './commands.js';
import { Instance, type InstanceLog } from './instance.js';
import { type CommandPaths, locateCommands, type PackageFiles } from './locate.js';
import { bootId } from './proc.js';
import { type CompanionRecord, readRecord } from './record.js';
import { type HandoverSlot, type StartContext, startUp } from './starting.js';
import { commandsOf, endProcesses, gone, Sight, terminate } from './terminate.js';
import { type CompanionTimes, TIMES } from './times.js';

export interface CompanionsOptions {
  /** The companions' own folder. */
  readonly dir: string;
  readonly packages: PackageFiles;
  readonly log: InstanceLog;
  /** Passed to companions as `--log-dir`; '' for none. */
  readonly logDir?: string;
  readonly times?: Partial<CompanionTimes>;
  /** Where control groups are made; by default found by trying. */
  readonly findCgroups?: () => Promise<CgroupTree | undefined>;
}

/** Key of an instance. There is one instance per program, or one per load if the companion loads the program itself. */
function instanceKey(companion: CompanionRef, loaded: string | undefined): string {
  return loaded === undefined ? companionKey(companion) : loaded;
}

function keyOf({ launch, loading }: CompanionRecord): string {
  return instanceKey(launch, loading?.dir);
}

const NO_PATIENCE = { stopMs: 0 };

/**
 * The companions of this host's programs: starts, updates and stops them, and adopts those that an earlier agent has
 * started. Calls must not overlap, except those of {@link status}.
 */
export class Companions {
  readonly #options: CompanionsOptions;
  readonly #times: CompanionTimes;
  readonly #commands: Commands;
  /** By {@link instanceKey}. */
  readonly #instances = new Map<string, Instance>();
  #cgroups: CgroupTree | undefined;
  #bootId = '';

  constructor(options: CompanionsOptions) {
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
    this.#commands = new Commands({ log: options.log, logDir: options.logDir ?? '', times: this.#times });
  }

  /** Adopts the companions that an earlier agent has left running, and ends those whose start it did not complete. */
  async open(): Promise<void> {
    const { dir } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    this.#bootId = await bootId();
    this.#cgroups = await (this.#options.findCgroups ?? CgroupTree.find)();
    for (const id of await readdir(dir)) {
      // A companion that cannot be ended must not block the chains. Its folder stays for the next agent.
      await this.#adopt(id).catch((error: unknown) => {
        this.#options.log.warn({ err: error, companion: id }, 'a companion of an earlier agent cannot be adopted');
      });
    }
  }

  /** Releases the companions. They keep running. */
  async close(): Promise<void> {
    for (const instance of this.#instances.values()) await instance.release();
    this.#instances.clear();
    await this.#cgroups?.close();
  }

  async observe(): Promise<readonly ObservedCompanion[]> {
    return Promise.all([...this.#instances.values()].map((instance) => this.#look(instance)));
  }

  /**
   * Checks that a package holds everything that the companion's start needs. Starts nothing.
   *
   * @throws AgentError COMPANION_NOT_FOUND with the field of the payload, and what fetching the package may throw
   */
  async check(launch: CompanionLaunch): Promise<void> {
    await locateCommands(launch, this.#options.packages);
  }

  /**
   * Starts a companion and replaces any existing instance. When this returns, a daemon has survived its settling time,
   * and any other companion has run to its end.
   *
   * @param maps kernel ids of its program's maps
   * @param restarts how often it was restarted because it had ended
   * @param loading given if the companion loads its program itself: the program is loaded when this returns, and
   *   instances for other loads keep running
   * @throws AgentError COMPANION_FAILED, COMPANION_NOT_FOUND, DISK_FULL or DISK_FAULT; nothing of the companion is
   *   left then
   */
  async start(
    launch: CompanionLaunch,
    maps: readonly number[],
    restarts: number,
    loading?: HandoverSlot,
  ): Promise<void> {
    const programs = await locateCommands(launch, this.#options.packages);
    const key = instanceKey(launch, loading?.dir);
    await this.#end(key);
    const instance = this.#instanceOf(launch, programs, maps, restarts, loading);
    this.#instances.set(key, instance);
    try {
      await instance.create();
      await this.#cgroups?.make(instance.record.id, launch.companion.memoryBytes);
      await instance.follow();
      await startUp(instance, this.#surroundings, loading);
      const { cmdStart, daemon } = launch.companion;
      await instance.amend({ phase: cmdStart !== '' && daemon ? 'running' : 'done' });
    } catch (error) {
      await this.#discard(instance);
      throw this.#blamingDisk(launch, error);
    }
  }

  /**
   * Stops a companion by its own command or by SIGTERM, and kills what does not stop. When this returns, all of its
   * processes have ended. It is no error if the companion does not run.
   *
   * @param loaded directory of the program that it has loaded; absent if the agent has loaded the program
   * @throws AgentError LEFTOVER
   */
  async stop(companion: CompanionRef, loaded?: string): Promise<void> {
    const key = instanceKey(companion, loaded);
    const instance = this.#instances.get(key);
    if (instance === undefined) return;
    const { record } = instance;
    // Find its processes before it is stopped: some may outlive what identifies them.
    const sight = await Sight.of(record);
    await sight.look();
    const asked = await this.#commands.stop(record, stopArguments(record.launch));
    if (asked) await gone(() => sight.look(), this.#times.stopMs);
    await instance.terminate(asked ? { ...this.#times, ...NO_PATIENCE } : this.#times, sight);
    this.#instances.delete(key);
    await instance.remove();
  }

  /**
   * Changes the arguments of a running companion: runs `cmd_update` and `cmd_config` if their arguments differ.
   *
   * @throws AgentError COMPANION_FAILED or COMPANION_NOT_FOUND
   */
  async update(from: CompanionLaunch, to: CompanionLaunch, loaded?: string): Promise<void> {
    const instance = this.#instances.get(instanceKey(to, loaded));
    if (instance === undefined) throw new AgentError('COMPANION_FAILED', 'The companion to update does not run');
    const next = { ...instance.record, launch: to, programs: await locateCommands(to, this.#options.packages) };
    if (wantsUpdate(from, to)) await this.#commands.update(next);
    if (wantsConfig(from, to)) await this.#commands.config(next);
    await instance.amend({ launch: to, programs: next.programs }).catch((error: unknown) => {
      throw this.#blamingDisk(to, error);
    });
  }

  /**
   * The status of a companion: what `cmd_status` says, or without such a command, whether its process is alive.
   *
   * @returns undefined for a companion that does not exist
   */
  async status(companion: CompanionRef, loaded?: string): Promise<'running' | 'not running' | undefined> {
    const instance = this.#instances.get(instanceKey(companion, loaded));
    if (instance === undefined) return undefined;
    const said = await this.#commands.status(instance.record);
    const running = said ?? (instance.record.phase === 'done' || (await instance.alive()));
    return running ? 'running' : 'not running';
  }

  async #look(instance: Instance): Promise<ObservedCompanion> {
    const { launch, maps, restarts, loading, phase, process } = instance.record;
    const alive = await instance.alive();
    const state = phase === 'done' ? 'done' : alive && phase === 'running' ? 'running' : 'ended';
    const pid = alive ? process?.pid : undefined;
    return { launch, maps, restarts, state, pid, ...(loading !== undefined && { loaded: loading.dir }) };
  }

  async #adopt(id: string): Promise<void> {
    const { dir, log } = this.#options;
    const folder = join(dir, id);
    const record = await readRecord(folder);
    const known = record !== undefined && record.bootId === this.#bootId && record.id === id;
    if (!known) {
      // Its processes are known by their environment. They are of no use without a record.
      const cgroup = this.#cgroups?.path(id) ?? '';
      await terminate({ id, process: null, cgroup }, { ...this.#times, ...NO_PATIENCE });
      await removeGroup(cgroup);
      await rm(folder, { recursive: true, force: true });
      return;
    }
    const instance = new Instance(folder, record, log);
    const key = keyOf(record);
    if (record.phase === 'starting' || this.#instances.has(key)) return this.#discard(instance);
    const alive = await instance.alive();
    await endProcesses(await commandsOf(id), { ...this.#times, ...NO_PATIENCE });
    if (record.phase === 'running' && !alive) await instance.terminate({ ...this.#times, ...NO_PATIENCE });
    await instance.follow();
    this.#instances.set(key, instance);
    const fields = { program: record.launch.package.name, ...record.launch.hook, pid: record.process?.pid };
    if (alive) log.info(fields, 'adopted companion');
    else if (record.phase === 'running') log.warn(fields, 'a companion has ended while no agent was running');
  }

  #instanceOf(
    launch: CompanionLaunch,
    programs: CommandPaths,
    maps: readonly number[],
    restarts: number,
    loading: HandoverSlot | undefined,
  ): Instance {
    const { dir, log } = this.#options;
    const id = randomBytes(8).toString('hex');
    // Only the name of the group. The group itself is made after the record is written.
    const cgroup = this.#cgroups?.path(id) ?? '';
    const record: CompanionRecord = {
      id,
      launch,
      programs,
      maps: maps.toSorted((a, b) => a - b),
      restarts,
      ...(loading !== undefined && { loading: { dir: loading.dir, slot: loading.slot } }),
      bootId: this.#bootId,
      phase: 'starting',
      process: null,
      cgroup,
    };
    return new Instance(resolve(dir, id), record, log);
  }

  #blamingDisk({ package: { name } }: CompanionLaunch, error: unknown): unknown {
    return blamingDisk(`The files of the companion of ${name} in ${this.#options.dir}`, error);
  }

  get #surroundings(): StartContext {
    const recorded = [...this.#instances.values()].map(({ record }) => record);
    const { logDir = '' } = this.#options;
    const limitsMemory = this.#cgroups?.limitsMemory === true;
    return { times: this.#times, commands: this.#commands, logDir, limitsMemory, recorded };
  }

  async #end(key: string): Promise<void> {
    const instance = this.#instances.get(key);
    if (instance === undefined) return;
    await instance.terminate(this.#times);
    this.#instances.delete(key);
    await instance.remove();
  }

  /** Ends a companion at once after its start has failed. */
  async #discard(instance: Instance): Promise<void> {
    await instance.terminate({ ...this.#times, ...NO_PATIENCE });
    const key = keyOf(instance.record);
    if (this.#instances.get(key) === instance) this.#instances.delete(key);
    await instance.remove();
  }
}
