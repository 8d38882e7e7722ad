import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** The moment of a broker's failure, given by what an agent sends. */
export interface Blow {
  /** Matches a line of the protocol, for example `/^H?PUB l3af\.ack\./`. */
  readonly line: RegExp;
  /** `before` the broker receives the line; or `after` it has answered, but before the agent receives the answer. */
  readonly when: 'before' | 'after';
  /** Identifies the answer; default: the inbox in the line. */
  readonly answer?: string | undefined;
  /** What happens to the broker. Every connection through the proxy is closed at that time. */
  readonly strike: () => Promise<void>;
}

/**
 * A proxy between an agent and its broker that makes the broker fail at an exact place in their exchange. It
 * understands only as much of the protocol (https://docs.nats.io/reference/reference-protocols/nats-protocol) as it
 * needs to find that place.
 */
export class BrokerProxy {
  readonly #port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #blow: Blow | undefined;
  /** Identifies the expected answer, after the line was found. */
  #answer: string | undefined;
  #struck: Promise<void> = Promise.resolve();

  /** @param port of the broker, on the loopback interface */
  constructor(port: number) {
    this.#port = port;
    this.#server = createServer((agent) => this.#join(agent));
  }

  /** @returns the address for agents */
  async start(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `nats://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  /** Fails once, the next time that the line is sent. @returns resolves when that has happened */
  arm(blow: Blow): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#blow = {
        ...blow,
        strike: async () => {
          this.#struck = blow.strike();
          await this.#struck.then(resolve, reject);
        },
      };
    });
  }

  #join(agent: Socket): void {
    const broker = connect({ host: '127.0.0.1', port: this.#port });
    for (const [from, to] of [
      [agent, broker],
      [broker, agent],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => undefined);
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    let unfinished = '';
    agent.on('data', (chunk) => {
      const lines = (unfinished + chunk.toString('latin1')).split('\r\n');
      unfinished = lines.pop() ?? '';
      if (this.#passes(lines)) broker.write(chunk);
    });
    broker.on('data', (chunk) => {
      if (this.#answer === undefined || !chunk.includes(this.#answer)) agent.write(chunk);
      else this.#strike();
    });
  }

  /** Whether what the agent sends may reach the broker. */
  #passes(lines: readonly string[]): boolean {
    if (this.#blow === undefined || this.#answer !== undefined) return true;
    const { line: wanted, when, answer } = this.#blow;
    const line = lines.find((text) => wanted.test(text));
    if (line === undefined) return true;
    if (when === 'before') {
      this.#strike();
      return false;
    }
    this.#answer = answer ?? line.split(' ')[2];
    return true;
  }

  #strike(): void {
    const blow = this.#blow;
    this.#blow = undefined;
    this.#answer = undefined;
    this.#cut();
    void blow?.strike();
  }

  #cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
