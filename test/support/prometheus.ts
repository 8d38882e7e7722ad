import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { atExit } from './last-resort.js';
import { freePort } from './nats.js';
import { isAbsence, missing } from './tool.js';
import { untilGiven } from './until.js';

/** A series at one moment, as the query API returns it. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [at: number, value: string];
}

export interface LoadedRule {
  readonly name: string;
  readonly health: string;
  readonly lastError?: string;
}

/** A real Prometheus with its own configuration and store. */
export class Prometheus {
  readonly #dir: string;
  readonly #url: string;
  readonly #process: ChildProcess;
  readonly #forget: () => void;

  private constructor(dir: string, url: string, process: ChildProcess, forget: () => void) {
    [this.#dir, this.#url, this.#process, this.#forget] = [dir, url, process, forget];
  }

  /** @param config content of its configuration file, with absolute paths */
  static async start(config: string): Promise<Prometheus> {
    const dir = await mkdtemp(join(tmpdir(), 'l3af-prometheus-'));
    await writeFile(join(dir, 'prometheus.yml'), config);
    const address = `127.0.0.1:${await freePort()}`;
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(dir, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(dir, 'data')}`,
        `--web.listen-address=${address}`,
      ],
      { stdio: 'ignore' },
    );
    let failure: Error | undefined;
    child.once('error', (error) => {
      failure = isAbsence(error) ? missing('prometheus', error) : error;
    });
    const forget = atExit(() => child.kill('SIGKILL'));
    const prometheus = new Prometheus(dir, `http://${address}`, child, forget);
    await untilGiven('Prometheus to be ready', async () => {
      if (failure !== undefined) throw failure;
      if (child.exitCode !== null) throw new Error(`Prometheus has ended with status ${child.exitCode}`);
      return (await fetch(`http://${address}/-/ready`)).ok ? true : undefined;
    });
    return prometheus;
  }

  /** @throws Error with the message of Prometheus if it rejects the query */
  async query(query: string): Promise<readonly Sample[]> {
    const { result } = await this.#get<{ result: Sample[] }>(`query?query=${encodeURIComponent(query)}`);
    return result;
  }

  /** The rules of all groups, with the results of their last evaluation. */
  async rules(): Promise<readonly LoadedRule[]> {
    const { groups } = await this.#get<{ groups: { rules: LoadedRule[] }[] }>('rules');
    return groups.flatMap(({ rules }) => rules);
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, 'close');
    if (this.#process.exitCode === null && this.#process.kill('SIGTERM')) await ended;
    this.#forget();
    await rm(this.#dir, { recursive: true });
  }

  async #get<T>(path: string): Promise<T> {
    const answer = (await (await fetch(`${this.#url}/api/v1/${path}`)).json()) as { data: T; error?: string };
    if (answer.error !== undefined) throw new Error(`${path}: ${answer.error}`);
    return answer.data;
  }
}
