import { type Command, CommanderError } from 'commander';
import { messageOf } from '../errors.js';
import { EXIT, type ExitCode, exitCodeOf } from './exit.js';
import { buildProgram, whereToLook, wordsOf } from './program.js';
import type { Terminal } from './session.js';
import { harmless, styleFor } from './style.js';
import { packageVersion } from './version.js';

/** Runs the command line of the process, and sets its exit code. */
export async function runProgram(): Promise<void> {
  const terminal: Terminal = {
    out: (text) => process.stdout.write(text),
    error: (text) => process.stderr.write(text),
    style: styleFor(process.stdout, process.env),
    columns: process.stdout.columns || undefined,
  };
  const program = buildProgram(packageVersion(), terminal, (code) => {
    process.exitCode = code;
  });
  /** The command that is running. */
  let current: Command = program;
  program.hook('preAction', (_program, command) => {
    current = command;
  });
  // It is not a failure when the reader stops early (`l3afctl acks | head`).
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(process.exitCode);
  });
  try {
    await program.parseAsync();
  } catch (error) {
    process.exitCode = report(error, current, terminal);
  }
}

/** Prints the error on one line and, for wrong usage, where to find help. Commander reports wrong options itself. */
function report(error: unknown, command: Command, terminal: Terminal): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  const code = exitCodeOf(error);
  terminal.error(`${wordsOf(command)}: ${harmless(messageOf(error))}\n`);
  if (code === EXIT.usage) terminal.error(`${whereToLook(command)}\n`);
  return code;
}
