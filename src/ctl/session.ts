import { Option } from 'commander';
import { FleetClient } from '../client/fleet-client.js';
import type { ExitCode } from './exit.js';
import { type CommonOptions, connectOptions } from './options.js';
import type { Style } from './style.js';
import { parseDuration } from './values.js';

/* What all commands share: the connection to the fleet and the terminal. */

/** Where output goes. Tests pass their own. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  readonly style: Style;
  /** Width of the terminal; undefined for a file or a pipe. */
  readonly columns: number | undefined;
}

/** Receives the exit code of the command. */
export type Exit = (code: ExitCode) => void;

export async function withClient<T>(options: CommonOptions, work: (client: FleetClient) => Promise<T>): Promise<T> {
  const client = await FleetClient.connect(connectOptions(options));
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/** Prints a value as `render` formats it, or as JSON with `-o json`. */
export function print<T>(
  value: T,
  { output }: CommonOptions,
  { out, style, columns = Number.POSITIVE_INFINITY }: Terminal,
  render: (value: T, style: Style, width: number) => string[],
): void {
  const lines = output === 'json' ? [JSON.stringify(value, undefined, 2)] : render(value, style, columns);
  out(lines.map((line) => `${line}\n`).join(''));
}

export function durationOption(description: string, initial: string): Option {
  return new Option('--timeout <duration>', description)
    .default(parseDuration(initial), initial)
    .argParser(parseDuration);
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
