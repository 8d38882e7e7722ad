import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface ReceiverPlace {
  /** Path of the network namespace, for example `/run/netns/<name>`. */
  readonly netns: string;
  readonly address: string;
  readonly port: number;
}

export interface Received {
  readonly total: number;
  /** Datagrams by the type-of-service byte of their IP headers; the DSCP is its upper six bits. */
  readonly byTos: Readonly<Record<number, number>>;
}

/** Receives UDP datagrams in a network namespace. */
export class Receiver {
  readonly #listener: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #lines: AsyncIterator<string>;

  private constructor(listener: ChildProcess, ended: Promise<unknown>, lines: AsyncIterator<string>) {
    this.#listener = listener;
    this.#ended = ended;
    this.#lines = lines;
  }

  /** Resolves when it is ready to receive. */
  static async open({ netns, address, port }: ReceiverPlace): Promise<Receiver> {
    const script = join(import.meta.dirname, 'listener.js');
    const args = [`--net=${netns}`, process.execPath, script, address, String(port)];
    const listener = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(listener, 'close');
    const lines = createInterface({ input: listener.stdout })[Symbol.asyncIterator]();
    if ((await lines.next()).done) throw new Error(`Nothing listens on ${address}:${port} in ${netns}`);
    return new Receiver(listener, ended, lines);
  }

  /** Stops and returns what was received. */
  async close(): Promise<Received> {
    this.#listener.stdin?.write('stop\n');
    const line = await this.#lines.next();
    await this.#ended;
    if (line.done) throw new Error('The receiver ended before it was stopped');
    const byTos = JSON.parse(line.value) as Record<number, number>;
    return { total: Object.values(byTos).reduce((sum, count) => sum + count, 0), byTos };
  }
}
