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
import { type Loading, type Surroundings, startUp } from './starting.js';
import { commandsOf, endProcesses, gone, Sight, terminate } from './terminate.js';
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

/** There is one for each program; of those that load it themselves there may be one for each load. */
function instanceKey(companion: CompanionRef, loaded: string | undefined): string {
  return loaded === undefined ? companionKey(companion) : loaded;
}

function keyOf({ launch, loading }: CompanionRecord): string {
  return instanceKey(launch, loading?.dir);
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
  /** By {@link instanceKey}. */
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
   * @param loading where it is to load its program itself: then it has done so when this returns, and others of its kind run on
   * @throws AgentError COMPANION_FAILED, COMPANION_NOT_FOUND, or INTERNAL for a full disk; then nothing of it is left
   */
  async start(launch: CompanionLaunch, maps: readonly number[], restarts: number, loading?: Loading): Promise<void> {
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
   * Stops a companion by its own command or by SIGTERM, and kills what does not heed it. When this returns it is gone, with all of its
   * processes. One that does not run is no error.
   *
   * @param loaded directory of the generation whose program it has loaded; absent for one that came to a program that was there
   * @throws AgentError LEFTOVER
   */
  async stop(companion: CompanionRef, loaded?: string): Promise<void> {
    const key = instanceKey(companion, loaded);
    const instance = this.#instances.get(key);
    if (instance === undefined) return;
    const { record } = instance;
    // Seen before it is asked to end: some of it may outlive what it is known by.
    const sight = await Sight.of(record);
    await sight.look();
    const asked = await this.#commands.stop(record, stopArguments(record.launch));
    if (asked) await gone(() => sight.look(), this.#times.stopMs);
    await instance.terminate(asked ? { ...this.#times, ...NO_PATIENCE } : this.#times, sight);
    this.#instances.delete(key);
    await instance.remove();
  }

  /**
   * Gives a companion that goes on other arguments than those that it was started with: runs `cmd_update` and `cmd_config` where theirs
   * differ.
   *
   * @throws AgentError COMPANION_FAILED or COMPANION_NOT_FOUND
   */
  async update(from: CompanionLaunch, to: CompanionLaunch, loaded?: string): Promise<void> {
    const instance = this.#instances.get(instanceKey(to, loaded));
    if (instance === undefined) throw new AgentError('COMPANION_FAILED', 'The companion to be updated is not there');
    const next = { ...instance.record, launch: to, programs: await locateCommands(to, this.#options.packages) };
    if (wantsUpdate(from, to)) await this.#commands.update(next);
    if (wantsConfig(from, to)) await this.#commands.config(next);
    await instance.amend({ launch: to, programs: next.programs }).catch((error: unknown) => {
      throw this.#blamingDisk(to, error);
    });
  }

  /**
   * What `cmd_status` says of a companion, or where there is none, whether its process is alive.
   *
   * @returns undefined for one that is not there
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
      // Whatever it was, its processes are known by their environment, and are of no use without a record.
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
    else if (record.phase === 'running') log.warn(fields, 'a companion has ended while there was no agent');
  }

  #instanceOf(
    launch: CompanionLaunch,
    programs: CommandPaths,
    maps: readonly number[],
    restarts: number,
    loading: Loading | undefined,
  ): Instance {
    const { dir, log } = this.#options;
    const id = randomBytes(8).toString('hex');
    // Only its name: nothing is made that no record tells of.
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

  get #surroundings(): Surroundings {
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

  /** Ends at once what has come to nothing. */
  async #discard(instance: Instance): Promise<void> {
    await instance.terminate({ ...this.#times, ...NO_PATIENCE });
    const key = keyOf(instance.record);
    if (this.#instances.get(key) === instance) this.#instances.delete(key);
    await instance.remove();
  }
}
