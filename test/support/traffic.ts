import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface TrafficTarget {
  /** Path of the sending network namespace, for example `/run/netns/<name>`. */
  readonly netns: string;
  readonly address: string;
  readonly port: number;
  /** Packets per second. */
  readonly rate: number;
  /** Stop automatically after this many packets. */
  readonly count?: number;
}

/** Real UDP packets from a network namespace, counted by their sender. */
export class Traffic {
  readonly #target: TrafficTarget;
  #sender: ChildProcess | undefined;
  #ended: Promise<unknown> | undefined;
  #lines: AsyncIterator<string> | undefined;

  constructor(target: TrafficTarget) {
    this.#target = target;
  }

  /** Resolves when the first packets are sent. */
  async start(): Promise<void> {
    const { netns, address, port, rate, count } = this.#target;
    const script = join(import.meta.dirname, 'sender.js');
    const args = [script, address, String(port), String(rate), ...(count === undefined ? [] : [String(count)])];
    const sender = spawn('nsenter', [`--net=${netns}`, process.execPath, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#sender = sender;
    this.#ended = once(sender, 'close');
    this.#lines = createInterface({ input: sender.stdout })[Symbol.asyncIterator]();
    await this.#line();
  }

  /** Ends the traffic and resolves to the number of packets that were sent. */
  stop(): Promise<number> {
    this.#sender?.stdin?.write('stop\n');
    return this.finished();
  }

  /** For traffic with a count: resolves to the number of packets after the last one was sent. */
  async finished(): Promise<number> {
    if (this.#sender === undefined) throw new Error('No traffic was started');
    const { sent } = JSON.parse(await this.#line()) as { sent: number };
    await this.#ended;
    this.#sender = undefined;
    return sent;
  }

  async #line(): Promise<string> {
    const next = await this.#lines?.next();
    if (next === undefined || next.done) throw new Error(`The sender in ${this.#target.netns} has died`);
    return next.value;
  }
}

/** Sends `count` packets and waits until they are out. */
export async function sendPackets(target: TrafficTarget & { readonly count: number }): Promise<number> {
  const traffic = new Traffic(target);
  await traffic.start();
  return traffic.finished();
}
