import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

/** The compiled program. */
export const L3AFCTL = join(import.meta.dirname, '..', '..', 'src', 'ctl', 'main.js');

export interface Ran {
  readonly out: string;
  readonly error: string;
  readonly code: number | null;
}

/** Runs a line of shell in which `l3afctl` is ours, with the broker at `natsUrl`. */
export async function shell(line: string, { natsUrl, cwd }: { natsUrl: string; cwd?: string }): Promise<Ran> {
  const script = `l3afctl() { "${process.execPath}" "${L3AFCTL}" "$@"; }; ${line}`;
  const env = { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, L3AF_NATS_URL: natsUrl };
  const child = spawn('sh', ['-c', script], { env, ...(cwd !== undefined && { cwd }) });
  child.stdin.end();
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [out, error, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  return { out, error, code };
}

/** Runs our l3afctl at a terminal of 120 columns. @param words must need no quoting */
export async function atTerminal(words: string, natsUrl: string): Promise<Ran> {
  const command = `stty cols 120; "${process.execPath}" "${L3AFCTL}" ${words}`;
  const ran = await shell(`script --quiet --return --command '${command}' /dev/null`, { natsUrl });
  return { ...ran, out: ran.out.replaceAll('\r\n', '\n') };
}
