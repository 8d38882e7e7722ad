import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import { atExit } from '../support/last-resort.js';
import type { Testbed } from '../support/testbed.js';

/** The port that markers react to: see native/bpf/mark.h. */
const PROBE_PORT = 9999;
const PATIENCE_MS = 20_000;

/** Packets that leave an interface through its egress chain and come back through its ingress chains. */
export class Prober {
  readonly #bed: Testbed;
  readonly #echo: ChildProcess;
  readonly #socket: Socket;
  readonly #forget: () => void;

  private constructor(bed: Testbed, echo: ChildProcess, socket: Socket) {
    this.#bed = bed;
    this.#echo = echo;
    this.#socket = socket;
    this.#forget = atExit(() => echo.kill('SIGKILL'));
  }

  static async open(bed: Testbed): Promise<Prober> {
    const script = join(import.meta.dirname, '..', 'support', 'echo.js');
    const args = [`--net=${bed.netns}`, process.execPath, script, bed.peerAddress, String(PROBE_PORT)];
    const echo = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(echo.stdout, 'data');
    const socket = createSocket({ type: 'udp4', lookup: (name, _options, done) => done(null, name, 4) });
    await new Promise<void>((resolve) => socket.bind(PROBE_PORT, bed.address, resolve));
    return new Prober(bed, echo, socket);
  }

  /** Resolves when one probe packet is back and so has passed every program. */
  async probe(): Promise<void> {
    const back = once(this.#socket, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) });
    this.#socket.send('probe', PROBE_PORT, this.#bed.peerAddress);
    await back;
  }

  async close(): Promise<void> {
    const ended = once(this.#echo, 'close');
    this.#echo.stdin?.end();
    await ended;
    this.#socket.close();
    this.#forget();
  }
}
