import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError } from '../errors.js';
import { killGroup, membersOf } from './cgroup.js';
import { COMMAND_VARIABLE, ID_VARIABLE } from './launch.js';
import { environmentOf, isAlive, type ProcessKey, type ProcessStat, runningProcesses } from './proc.js';

/** Whose processes are to end. */
export interface Target {
  readonly id: string;
  readonly process: ProcessKey | null;
  /** Folder of the control group, '' for none. */
  readonly cgroup: string;
}

export interface Patience {
  /** How long processes may take to end after SIGTERM, in milliseconds; 0: they are killed at once. */
  readonly stopMs: number;
  /** How long the kernel may take to end them after SIGKILL. */
  readonly killMs: number;
}

const POLL_MS = 25;

/**
 * Ends every process of a companion: its process group first, then whatever has left it.
 *
 * @throws AgentError LEFTOVER naming what is still there
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
  const message = `Processes of the companion are still there ${killMs / 1000} s after SIGKILL: ${left.join(', ')}`;
  throw new AgentError('LEFTOVER', message);
}

/** Whether all is gone before the time is up. */
export async function gone(look: () => Promise<readonly unknown[]>, withinMs: number): Promise<boolean> {
  for (const end = performance.now() + withinMs; ; await sleep(POLL_MS)) {
    if ((await look()).length === 0) return true;
    if (performance.now() > end) return false;
  }
}

/**
 * Finds every process of a companion. They are known by the control group, by the session that the companion leads, by the environment that
 * they have from it, and by their parents; never by a name. Whoever was found once stays known: when its parent ends before it, nothing else
 * may tell whose it is.
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
    // The session's number is the companion's process id. It is no other's while the companion runs, or anything of its session.
    const leads = target.process !== null && (await isAlive(target.process));
    return new Sight(target, leads ? target.process?.pid : undefined);
  }

  /** Its session as long as there is anything in it. */
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

/** Commands such as `cmd_update` that an agent has left behind when it died. */
export async function commandsOf(id: string): Promise<readonly ProcessStat[]> {
  const found: ProcessStat[] = [];
  for (const stat of await runningProcesses()) {
    const environment = await environmentOf(stat.pid);
    if (environment.get(ID_VARIABLE) === id && environment.has(COMMAND_VARIABLE)) found.push(stat);
  }
  return found;
}

/** Ends single processes, which are known already to be ours. */
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
    `Processes are still there after SIGKILL: ${(await left()).map(({ pid }) => pid).join(', ')}`,
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
    // It has ended meanwhile.
  }
}
