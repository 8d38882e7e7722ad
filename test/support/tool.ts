import { type ExecFileOptions, execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';

/*
 * Programs of the machine that tests and the demo call. If one is missing, the test fails with the name of its package.
 */

const execute = promisify(execFile);

/**
 * The Debian package of each program. deploy/install-deps.sh installs those that are not part of every Debian: a test
 * compares the two lists (unit/deploy/dependencies).
 */
export const PACKAGES: Readonly<Record<string, string>> = {
  bpftool: 'bpftool',
  clang: 'clang',
  ethtool: 'ethtool',
  ip: 'iproute2',
  make: 'make',
  'nats-server': 'nats-server',
  openssl: 'openssl',
  pip3: 'python3-pip',
  prometheus: 'prometheus',
  promtool: 'prometheus',
  tc: 'iproute2',
};

/** The environment of this process, with the folders of system tools, which are not in an ordinary user's PATH. */
export function withSystemTools(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  return { ...env, PATH: `${env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin` };
}

/**
 * Runs a program to its end.
 *
 * @throws Error ExecFileException, or what to install
 */
export async function run(
  program: string,
  args: readonly string[] = [],
  options: ExecFileOptions = {},
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  try {
    return await execute(program, args, { ...options, encoding: 'utf8', env: withSystemTools(options.env) });
  } catch (error) {
    throw isAbsence(error) ? missing(program, error) : error;
  }
}

/** The same, synchronously. @returns its standard output */
export function runSync(program: string, args: readonly string[], options: { readonly cwd?: string } = {}): string {
  try {
    return execFileSync(program, args, { ...options, encoding: 'utf8', stdio: 'pipe', env: withSystemTools() });
  } catch (error) {
    throw isAbsence(error) ? missing(program, error) : error;
  }
}

/** The error for a program that is not installed. */
export function missing(program: string, cause?: unknown): Error {
  return new Error(`${program} is missing: apt-get install ${PACKAGES[program] ?? program}`, { cause });
}

/** Whether a program could not be started because it does not exist. */
export function isAbsence(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
