import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError } from '../errors.js';
import { killGroup, membersOf } from './cgroup.js';
import { COMMAND_VARIABLE, ID_VARIABLE } from './launch.js';
import { environmentOf, isAlive, type ProcessKey, type ProcessStat, runningProcesses } from './proc.js';

/** The companion whose processes are ended. */
export interface Target {
  readonly id: string;
  readonly process: ProcessKey | null;
  /** Folder of the control group, '' for none. */
  readonly cgroup: string;
}

export interface Patience {
  /** How long processes may take to end after SIGTERM, in milliseconds; 0 kills them at once. */
  readonly stopMs: number;
  /** How long the kernel may take to end them after SIGKILL, in milliseconds. */
  readonly killMs: number;
}

const POLL_MS = 25;

/**
 * Ends all processes of a companion: its process group first, then those that have left the group.
 *
 * @throws AgentError LEFTOVER with the processes that still run
 */
export async function terminate(target: Target, { stopMs, killMs }: Patience, sight?: Sight): Promise<void> {
  const known = sight ?? (await Sight.of(target));
  const look = () => known.look();
  const processes = await look();
  if (processes.length === 0) return;
  if (stopMs > 0) {
    const { session } = known;
    if (session !== undefined) signal(-session, 'SIGTERM');
    for (const { pid, group } of processes) if (group !== session) signal(pid, 'SIGTERM');
    if (await gone(look, stopMs)) return;
  }
  const kill = async () => {
    const left = await look();
    const { session } = known;
    if (left.length > 0 && target.cgroup !== '') await killGroup(target.cgroup);
    if (session !== undefined && left.some(({ group }) => group === session)) signal(-session, 'SIGKILL');
    for (const { pid } of left) signal(pid, 'SIGKILL');
    return left;
  };
  if (await gone(kill, killMs)) return;
  const left = (await look()).map(({ pid }) => pid);
  const message = `Processes of the companion still run ${killMs / 1000} s after SIGKILL: ${left.join(', ')}`;
  throw new AgentError('LEFTOVER', message);
}

/** Waits until all are gone. @returns false if the time is over first */
export async function gone(look: () => Promise<readonly unknown[]>, withinMs: number): Promise<boolean> {
  for (const end = performance.now() + withinMs; ; await sleep(POLL_MS)) {
    if ((await look()).length === 0) return true;
    if (performance.now() > end) return false;
  }
}

/**
 * Finds all processes of a companion: by the control group, by the session that the companion leads, by the environment
 * that they inherit from it, and by their parents; never by a name. A process that was found once stays known: after
 * its parent has ended, nothing else may identify it.
 */
export class Sight {
  readonly #target: Target;
  #session: number | undefined;
  #seen: ReadonlySet<string> = new Set();

  private constructor(target: Target, session: number | undefined) {
    this.#target = target;
    this.#session = session;
  }

  static async of(target: Target): Promise<Sight> {
    // The session id is the companion's process id. It is not reused while any process of the session runs.
    const leads = target.process !== null && (await isAlive(target.process));
    return new Sight(target, leads ? target.process?.pid : undefined);
  }

  /** Id of its session, while the session has any process. */
  get session(): number | undefined {
    return this.#session;
  }

  async look(): Promise<readonly ProcessStat[]> {
    const { id, cgroup } = this.#target;
    const grouped = new Set(await membersOf(cgroup));
    const found = new Map<number, ProcessStat>();
    const others: ProcessStat[] = [];
    for (const stat of await runningProcesses()) {
      if (stat.pid === process.pid) continue;
      const known = grouped.has(stat.pid) || stat.session === this.#session || this.#seen.has(keyOf(stat));
      if (known || (await environmentOf(stat.pid)).get(ID_VARIABLE) === id) found.set(stat.pid, stat);
      else others.push(stat);
    }
    for (let before = -1; before !== found.size; ) {
      before = found.size;
      for (const stat of others) if (found.has(stat.parent)) found.set(stat.pid, stat);
    }
    const processes = [...found.values()];
    this.#seen = new Set(processes.map(keyOf));
    if (!processes.some(({ session }) => session === this.#session)) this.#session = undefined;
    return processes;
  }
}

/** Commands such as `cmd_update` that an agent left running when it died. */
export async function commandsOf(id: string): Promise<readonly ProcessStat[]> {
  const found: ProcessStat[] = [];
  for (const stat of await runningProcesses()) {
    const environment = await environmentOf(stat.pid);
    if (environment.get(ID_VARIABLE) === id && environment.has(COMMAND_VARIABLE)) found.push(stat);
  }
  return found;
}

/** Ends single processes that are known to be ours. */
export async function endProcesses(processes: readonly ProcessStat[], { stopMs, killMs }: Patience): Promise<void> {
  const left = async () => {
    const alive = await Promise.all(processes.map(isAlive));
    return processes.filter((_, index) => alive[index]);
  };
  for (const { pid } of await left()) signal(pid, stopMs > 0 ? 'SIGTERM' : 'SIGKILL');
  if (await gone(left, stopMs)) return;
  for (const { pid } of await left()) signal(pid, 'SIGKILL');
  if (await gone(left, killMs)) return;
  throw new AgentError(
    'LEFTOVER',
    `Processes still run after SIGKILL: ${(await left()).map(({ pid }) => pid).join(', ')}`,
  );
}

function keyOf({ pid, startTime }: ProcessKey): string {
  return `${pid} ${startTime}`;
}

/** @param pid negative for a process group */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has already ended.
  }
}
