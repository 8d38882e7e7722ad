#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Command, CommanderError } from 'commander';
import { EXIT, type ExitCode, exitCodeOf } from './exit.js';
import { buildProgram, whereToLook, wordsOf } from './program.js';
import type { Terminal } from './session.js';
import { harmless, styleFor } from './style.js';

const terminal: Terminal = {
  out: (text) => process.stdout.write(text),
  error: (text) => process.stderr.write(text),
  style: styleFor(process.stdout, process.env),
  columns: process.stdout.columns || undefined,
};

const program = buildProgram(packageVersion(), terminal, (code) => {
  process.exitCode = code;
});
/** The command that is being run. */
let current: Command = program;
program.hook('preAction', (_program, command) => {
  current = command;
});

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

/** Tells on one line what went wrong, and where to look after wrong usage; commander has told about options itself. */
function report(error: unknown): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  const code = exitCodeOf(error);
  terminal.error(`${wordsOf(current)}: ${harmless(error instanceof Error ? error.message : String(error))}\n`);
  if (code === EXIT.usage) terminal.error(`${whereToLook(current)}\n`);
  return code;
}

function packageVersion(): string {
  let dir = import.meta.dirname;
  while (!existsSync(join(dir, 'package.json')) && dir !== dirname(dir)) dir = dirname(dir);
  return (JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as { version: string }).version;
}
