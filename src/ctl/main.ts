#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Command, CommanderError } from 'commander';
import { EXIT, type ExitCode, exitCodeOf } from './exit.js';
import { buildProgram } from './program.js';
import type { Terminal } from './session.js';
import { harmless, styleFor } from './style.js';

/** Where output goes into a file, or a terminal does not say. */
const DEFAULT_WIDTH = 100;

const terminal: Terminal = {
  out: (text) => process.stdout.write(text),
  error: (text) => process.stderr.write(text),
  style: styleFor(process.stdout, process.env),
  width: process.stdout.columns || DEFAULT_WIDTH,
};

const program = buildProgram(packageVersion(), terminal, (code) => {
  process.exitCode = code;
});
for (const command of withSubcommands(program)) command.exitOverride();

// A reader that has seen enough (`l3afctl acks | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(process.exitCode);
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Tells on one line what went wrong; commander has told about wrong usage itself. */
function report(error: unknown): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  terminal.error(`l3afctl: ${harmless(error instanceof Error ? error.message : String(error))}\n`);
  return exitCodeOf(error);
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

function packageVersion(): string {
  let dir = import.meta.dirname;
  while (!existsSync(join(dir, 'package.json')) && dir !== dirname(dir)) dir = dirname(dir);
  return (JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as { version: string }).version;
}
