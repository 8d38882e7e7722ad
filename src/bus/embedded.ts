import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError, messageOf } from '../errors.js';
import { pause } from '../retry.js';
import {
  acceptsJetStream,
  BINARY,
  EMBEDDED_USER,
  findServer,
  RANDOM_PORT,
  serverConfig,
  takesConfig,
  urlFromPortsFile,
} from './embedded-config.js';
import { type ServerProcess, serverProcess } from './embedded-process.js';
import type { BusLogger } from './logger.js';
import { isEnding, isGone } from './process-state.js';

export interface EmbeddedServerOptions {
  /** The server's files are in `nats/` below it. */
  readonly stateDir: string;
  readonly logger: BusLogger;
}

const START_DEADLINE_MS = 15_000;
const STOP_DEADLINE_MS = 10_000;
/** A killed process takes a moment to end. */
const ENDING_MS = 2_000;
const POLL_MS = 25;

/** Where a server is. */
export interface Embedded {
  /** For logs. */
  readonly url: string;
  /** The same with the user and the password, for connecting. */
  readonly access: string;
}

/** Of the password. */
const SECRET_BYTES = 24;

/**
 * A nats-server for a single host without a fleet. It outlives the agent: a new agent finds it running, with the
 * commands that came meanwhile. Its port is chosen at random once and kept, its password at each start of a server. Only
 * who may read the file `url` gets in: whoever may publish commands gets programs run as root, and a port of 127.0.0.1 is
 * open to all users of the machine.
 */
export class EmbeddedServer {
  readonly #dir: string;
  readonly #logger: BusLogger;
  /** The server that was started or adopted last. */
  #pid: number | undefined;

  constructor({ stateDir, logger }: EmbeddedServerOptions) {
    this.#dir = join(stateDir, 'nats');
    this.#logger = logger;
  }

  /**
   * Adopts the server that runs for this state directory, or starts one, and waits until it accepts connections.
   *
   * @throws AgentError CONFIG_INVALID when nats-server is not installed; STATE_DIR_LOCKED when one runs for this state
   *   directory but cannot be reached; BROKER_UNREACHABLE when it does not come up, with its last output as detail
   */
  async start(): Promise<Embedded> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const known = await this.#knownSecret();
    const running = await this.#runningPid();
    if (running !== undefined && known === undefined) {
      this.#logger.warn({ pid: running }, 'the password of the embedded nats-server was removed; starting it anew');
      this.#pid = running;
      await this.stop();
    } else if (running !== undefined && known !== undefined) {
      const url = await this.#accepting(running);
      if (url !== undefined) {
        if (running !== this.#pid) this.#logger.info({ pid: running, url }, 'adopted the embedded nats-server');
        this.#pid = running;
        return await this.#told(url, known);
      }
      await this.#goneWithin(running, ENDING_MS);
    }
    const binary = await findServer();
    const port = await this.#rememberedPort();
    // While no server runs, somebody else may listen at its address, and clients tell them the password. So each server has
    // its own, but for one that is started again under the connection of its agent.
    let secret = known !== undefined && this.#pid !== undefined ? known : await this.#newSecret();
    const { pid, url } = await this.#launch(binary, port, secret).catch(async (error: unknown) => {
      if (port === RANDOM_PORT || !portIsTaken(error)) throw error;
      this.#logger.warn({ port }, 'the port of the embedded nats-server is in use; choosing another');
      secret = await this.#newSecret();
      return this.#launch(binary, RANDOM_PORT, secret);
    });
    this.#pid = pid;
    this.#logger.info({ pid, url }, 'started the embedded nats-server');
    return await this.#told(url, secret);
  }

  /** Writes the address with the password where those who may use it find it. */
  async #told(url: string, secret: string): Promise<Embedded> {
    const access = url.replace('://', `://${EMBEDDED_USER}:${secret}@`);
    await this.#write('url', `${access}\n`);
    return { url, access };
  }

  /** Undefined if there is none yet, or if somebody has removed or damaged it. */
  async #knownSecret(): Promise<string | undefined> {
    const secret = (await readFile(this.#path('password'), 'utf8').catch(() => '')).trim();
    return /^[\w-]{20,64}$/.test(secret) ? secret : undefined;
  }

  /** Written before a server runs that knows it. */
  async #newSecret(): Promise<string> {
    const secret = randomBytes(SECRET_BYTES).toString('base64url');
    await this.#write('nats-server.password', `${secret}\n`);
    return secret;
  }

  /** Whole or not at all, also on a full disk, and readable by nobody else. */
  async #write(name: string, text: string): Promise<void> {
    const path = join(this.#dir, name);
    if ((await readFile(path, 'utf8').catch(() => '')) === text) return;
    await rm(`${path}.new`, { force: true });
    await writeFile(`${path}.new`, text, { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  /**
   * Ends the server of this state directory, if one runs; kills it after a deadline. A server that somebody else has
   * started in a replaced directory is left alone.
   */
  async stop(): Promise<void> {
    const pid = this.#pid ?? (await this.#recordedPid());
    if (pid === undefined || !(await this.#isOurs(pid))) return;
    process.kill(pid, 'SIGTERM');
    if (!(await this.#goneWithin(pid, STOP_DEADLINE_MS))) {
      this.#logger.warn({ pid }, 'the embedded nats-server did not stop in time; killing it');
      process.kill(pid, 'SIGKILL');
      await this.#goneWithin(pid, STOP_DEADLINE_MS);
    }
    this.#logger.info({ pid }, 'stopped the embedded nats-server');
  }

  async #launch(binary: string, port: number, password: string): Promise<{ pid: number; url: string }> {
    await this.#writeConfig(binary, port, password);
    await this.#forgetLastRun();
    const log = await open(this.#path('log'), 'a', 0o600);
    const child = spawn(binary, ['-c', this.#path('conf')], { detached: true, stdio: ['ignore', log.fd, log.fd] });
    child.unref();
    try {
      const pid = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('spawn', () => resolve(child.pid as number));
      });
      // The server writes it too, but later. If the agent were killed in between, the next one would start a second
      // server on the same store.
      await writeFile(this.#path('pid'), String(pid));
      const url = await this.#accepting(pid);
      if (url !== undefined) return { pid, url };
      throw new AgentError('BROKER_UNREACHABLE', `nats-server ended while it started; see ${this.#path('log')}`, {
        detail: await this.#lastWords(),
      });
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    } finally {
      await log.close();
    }
  }

  async #forgetLastRun(): Promise<void> {
    const stale = (await readdir(this.#dir)).filter((name) => name.endsWith('.ports'));
    for (const path of [this.#path('pid'), ...stale.map((name) => join(this.#dir, name))])
      await rm(path, { force: true });
  }

  /** Syncs every message to disk if the server can do that, see {@link serverConfig}. */
  async #writeConfig(binary: string, port: number, password: string): Promise<void> {
    for (const syncAlways of [true, false]) {
      const config = serverConfig({ dir: this.#dir, pidFile: this.#path('pid'), port, password, syncAlways });
      await writeFile(this.#path('conf'), config, { mode: 0o600 });
      if (await takesConfig(binary, this.#path('conf'))) return;
    }
    // Keep the configuration: the start fails with the server's own explanation.
  }

  /** The URL of a server once it accepts connections; undefined if it ends before that. */
  async #accepting(pid: number): Promise<string | undefined> {
    const deadline = performance.now() + START_DEADLINE_MS;
    while (performance.now() < deadline) {
      if (!(await this.#isOurs(pid))) return undefined;
      const url = await urlFromPortsFile(this.#dir, pid);
      if (url !== undefined && (await acceptsJetStream(url))) return url;
      await pause(POLL_MS);
    }
    throw new AgentError(
      'BROKER_UNREACHABLE',
      `nats-server does not accept connections after ${START_DEADLINE_MS / 1000} s; see ${this.#path('log')}`,
      { detail: await this.#lastWords() },
    );
  }

  /**
   * Waits until a server that is ending has ended, since it holds its port until then.
   *
   * @throws AgentError STATE_DIR_LOCKED
   */
  async #runningPid(): Promise<number | undefined> {
    const pid = await this.#recordedPid();
    if (pid === undefined) return undefined;
    const process = await this.#lookAt(pid);
    if (process === 'ours') return pid;
    if (process === 'out of reach') {
      throw new AgentError(
        'STATE_DIR_LOCKED',
        `The embedded nats-server of ${this.#dir} runs in another network namespace, as process ${pid}, and cannot be reached from ` +
          'here; stop it and the agent that it serves, or give this agent a state directory of its own',
      );
    }
    if (await isEnding(pid)) await this.#goneWithin(pid, ENDING_MS);
    return undefined;
  }

  async #recordedPid(): Promise<number | undefined> {
    const pid = Number(await readFile(this.#path('pid'), 'utf8').catch(() => ''));
    return Number.isInteger(pid) && pid > 1 ? pid : undefined;
  }

  async #isOurs(pid: number): Promise<boolean> {
    return (await this.#lookAt(pid)) === 'ours';
  }

  #lookAt(pid: number): Promise<ServerProcess> {
    return serverProcess(pid, BINARY, this.#path('conf'));
  }

  async #goneWithin(pid: number, deadlineMs: number): Promise<boolean> {
    const deadline = performance.now() + deadlineMs;
    while (!(await isGone(pid))) {
      if (performance.now() > deadline) return false;
      await pause(POLL_MS);
    }
    return true;
  }

  async #rememberedPort(): Promise<number> {
    const url = (await readFile(join(this.#dir, 'url'), 'utf8').catch(() => '')).trim();
    const port = URL.canParse(url) ? Number(new URL(url).port) : 0;
    return port > 0 ? port : RANDOM_PORT;
  }

  async #lastWords(): Promise<string> {
    const log = await readFile(this.#path('log'), 'utf8').catch(messageOf);
    return log.trimEnd().split('\n').slice(-5).join('\n');
  }

  #path(kind: 'conf' | 'pid' | 'log' | 'password'): string {
    return join(this.#dir, `nats-server.${kind}`);
  }
}

function portIsTaken(error: unknown): boolean {
  return error instanceof AgentError && error.detail?.includes('address already in use') === true;
}
