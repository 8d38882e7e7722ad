import { AgentError } from '../errors.js';
import { configArguments, statusArguments, updateArguments } from './arguments.js';
import { type CommandResult, runCommand } from './command.js';
import type { InstanceLog } from './instance.js';
import type { CommandName, CompanionRecord } from './record.js';
import type { CompanionTimes } from './times.js';

export interface CommandsOptions {
  readonly log: InstanceLog;
  readonly logDir: string;
  readonly times: CompanionTimes;
}

type Known = Pick<CompanionRecord, 'id' | 'launch' | 'programs' | 'cgroup'>;

/** Runs a companion's commands other than `cmd_start`. A command that the companion does not have is skipped. */
export class Commands {
  readonly #options: CommandsOptions;

  constructor(options: CommandsOptions) {
    this.#options = options;
  }

  /** @throws AgentError COMPANION_FAILED */
  async update(companion: Known): Promise<void> {
    await this.#mustRun('update', companion, updateArguments(companion.launch, this.#options));
  }

  /** @throws AgentError COMPANION_FAILED */
  async config(companion: Known): Promise<void> {
    await this.#mustRun('config', companion, configArguments(companion.launch));
  }

  /** @returns whether the command succeeded, so that the companion ends by itself */
  async stop(companion: Known, args: readonly string[]): Promise<boolean> {
    const { log, times } = this.#options;
    try {
      const result = await this.#run('stop', companion, args, times.commandMs);
      if (result === undefined || result.code === 0) return result !== undefined;
      log.warn({ ...fieldsOf(companion), ending: result.ending }, 'the command to stop a companion failed');
    } catch (error) {
      log.warn({ ...fieldsOf(companion), err: error }, 'the command to stop a companion could not be run');
    }
    return false;
  }

  /** Whether `cmd_status` prints RUNNING; undefined if the companion has no such command. */
  async status(companion: Known): Promise<boolean | undefined> {
    const { log, times } = this.#options;
    try {
      const result = await this.#run('status', companion, statusArguments(companion.launch), times.statusMs);
      return result && result.stdout.join('\n').trim().toUpperCase() === 'RUNNING';
    } catch (error) {
      log.warn({ ...fieldsOf(companion), err: error }, 'the status command of a companion could not be run');
      return false;
    }
  }

  async #mustRun(command: CommandName, companion: Known, args: readonly string[]): Promise<void> {
    const result = await this.#run(command, companion, args, this.#options.times.commandMs);
    if (result === undefined || result.code === 0) return;
    throw new AgentError('COMPANION_FAILED', `cmd_${command} failed: ${result.ending}`, {
      path: `cmd_${command}`,
      detail: result.lastLines.join('\n'),
    });
  }

  async #run(
    command: CommandName,
    companion: Known,
    args: readonly string[],
    deadlineMs: number,
  ): Promise<CommandResult | undefined> {
    const { id, programs, cgroup } = companion;
    const program = programs[command];
    if (program === undefined) return undefined;
    const { log } = this.#options;
    // The output of `cmd_status` is not logged, since it is the same at each check.
    const tell = command === 'status' ? log.debug.bind(log) : log.info.bind(log);
    const request = { program, args, id, command, cgroup, addressSpace: 0, cpuSeconds: 0 };
    return runCommand(request, deadlineMs, (line, stream, pid) =>
      tell({ ...fieldsOf(companion), pid, command, stream, line }, 'companion output'),
    );
  }
}

function fieldsOf({ launch }: Known): object {
  return { program: launch.package.name, ...launch.hook };
}
