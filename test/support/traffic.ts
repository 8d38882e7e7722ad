import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export interface TrafficTarget {
  /** Path of the sending network namespace, as in `/run/netns/<name>`. */
  readonly netns: string;
  readonly address: string;
  readonly port: number;
  /** Packets per second. */
  readonly rate: number;
  /** Stop by itself after so many packets. */
  readonly count?: number;
}

/** Real UDP packets out of a network namespace, counted by their sender. */
export class Traffic {
  readonly #target: TrafficTarget;
  #sender: ChildProcess | undefined;

  constructor(target: TrafficTarget) {
    this.#target = target;
  }

  start(): void {
    const { netns, address, port, rate, count } = this.#target;
    const script = join(import.meta.dirname, 'sender.js');
    const args = [script, address, String(port), String(rate), ...(count === undefined ? [] : [String(count)])];
    this.#sender = spawn('nsenter', [`--net=${netns}`, process.execPath, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  /** Ends the traffic and resolves to the number of packets that were sent. */
  async stop(): Promise<number> {
    this.#sender?.stdin?.write('stop\n');
    return this.finished();
  }

  /** For traffic with a count: resolves to the number of packets sent when all are. */
  async finished(): Promise<number> {
    const sender = this.#sender;
    if (sender?.stdout == null) throw new Error('no traffic was started');
    let text = '';
    sender.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    await once(sender, 'close');
    this.#sender = undefined;
    return (JSON.parse(text) as { sent: number }).sent;
  }
}

/** Sends `count` packets and waits until they are out. */
export async function sendPackets(target: TrafficTarget & { readonly count: number }): Promise<number> {
  const traffic = new Traffic(target);
  traffic.start();
  return traffic.finished();
}
