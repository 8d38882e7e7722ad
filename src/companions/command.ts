import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type LaunchRequest, launch } from './launch.js';
import { LineSplitter } from './lines.js';

export interface CommandResult {
  /** Undefined after a signal. */
  readonly code: number | undefined;
  /** In words: `exit status 3`, `SIGSEGV`, `no end within 30 s`. */
  readonly ending: string;
  /** The first lines of standard output. */
  readonly stdout: readonly string[];
  /** The last lines of both. */
  readonly lastLines: readonly string[];
}

/** How many lines of a command's output are kept. All lines go to the log. */
const KEPT_LINES = 20;
/** How long to read on after the end of a command. Its own output is available at once. */
const LAST_WORDS_MS = 200;

/**
 * Runs a command to its end. Kills it and its whole process group when it takes too long.
 *
 * @throws AgentError COMPANION_FAILED if it could not be started
 */
export async function runCommand(
  request: Omit<LaunchRequest, 'output'>,
  deadlineMs: number,
  onLine: (line: string, stream: 'stdout' | 'stderr', pid: number) => void,
): Promise<CommandResult> {
  const child = await launch({ ...request, output: ['pipe', 'pipe'] });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const closed = once(child, 'close');
  const stdout: string[] = [];
  const lastLines: string[] = [];
  for (const stream of ['stdout', 'stderr'] as const) {
    const splitter = new LineSplitter((line) => {
      onLine(line, stream, child.pid);
      if (stream === 'stdout' && stdout.length < KEPT_LINES) stdout.push(line);
      if (lastLines.push(line) > KEPT_LINES) lastLines.shift();
    });
    child[stream]!.on('data', (chunk: Buffer) => splitter.push(chunk)).once('end', () => splitter.finish());
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    killProcessGroup(child.pid);
  }, deadlineMs);
  const [code, signal] = await exited;
  clearTimeout(timer);
  // Processes that it has left behind may keep its output open.
  await Promise.race([closed, sleep(LAST_WORDS_MS, undefined, { ref: false })]);
  child.stdout?.destroy();
  child.stderr?.destroy();
  const ending = late ? `no end within ${deadlineMs / 1000} s` : endingOf(code, signal);
  return { code: late ? undefined : (code ?? undefined), ending, stdout, lastLines };
}

export function endingOf(code: number | null, signal: NodeJS.Signals | null): string {
  return signal ?? `exit status ${code}`;
}

/** Kills a process group. Its leader is our child and not yet waited for, so no other process can have its id. */
function killProcessGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}
