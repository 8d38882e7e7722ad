import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { L3AFCTL } from './project.js';
import { withSystemTools } from './tool.js';

export interface Ran {
  readonly out: string;
  readonly error: string;
  readonly code: number | null;
}

/** Runs a shell command in which `l3afctl` is ours, with the broker at `natsUrl`. */
export async function shell(line: string, { natsUrl, cwd }: { natsUrl: string; cwd?: string }): Promise<Ran> {
  const script = `l3afctl() { "${process.execPath}" "${L3AFCTL}" "$@"; }; ${line}`;
  const env = withSystemTools({ PATH: process.env.PATH, L3AF_NATS_URL: natsUrl });
  const child = spawn('sh', ['-c', script], { env, ...(cwd !== undefined && { cwd }) });
  child.stdin.end();
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [out, error, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  return { out, error, code };
}

/** Runs our l3afctl in a terminal of 120 columns. @param words must not need quoting */
export async function atTerminal(words: string, natsUrl: string): Promise<Ran> {
  const command = `stty cols 120; "${process.execPath}" "${L3AFCTL}" ${words}`;
  const ran = await shell(`script --quiet --return --command '${command}' /dev/null`, { natsUrl });
  return { ...ran, out: ran.out.replaceAll('\r\n', '\n') };
}
