import { setTimeout as sleep } from 'node:timers/promises';
import { EmbeddedServer } from '../bus/embedded.js';
import { AgentError } from '../errors.js';
import type { Logger } from '../telemetry/log.js';

export interface OwnBrokerOptions {
  readonly stateDir: string;
  readonly log: Logger;
  /** Ends the attempts to have the server back. */
  readonly signal: AbortSignal;
  readonly connected: () => boolean;
  /** Called when the server is where the connection does not look for it. */
  readonly onMoved: (error: AgentError) => void;
}

const REVIVAL_PAUSE_MS = 2_000;

/** The nats-server of an agent without a fleet: started with the agent or adopted by it, and started again when it dies. */
export class OwnBroker {
  readonly #options: OwnBrokerOptions;
  readonly #server: EmbeddedServer;
  #url: string | undefined;
  #reviving: Promise<void> | undefined;

  constructor(options: OwnBrokerOptions) {
    this.#options = options;
    this.#server = new EmbeddedServer({ stateDir: options.stateDir, logger: options.log });
  }

  /** @returns its URL */
  async start(): Promise<string> {
    this.#url = (await this.#server.start()).url;
    return this.#url;
  }

  /** To be called when the connection is lost. */
  revive(): void {
    this.#reviving ??= this.#revive().finally(() => {
      this.#reviving = undefined;
    });
  }

  async stop(): Promise<void> {
    await this.#reviving;
    await this.#server.stop();
  }

  /**
   * The server comes back on the same port, where the connection finds it. Where it cannot, or another has been started for this state
   * directory, only a new agent finds it.
   */
  async #revive(): Promise<void> {
    const { log, signal, connected, onMoved } = this.#options;
    let told: string | undefined;
    while (!signal.aborted && !connected()) {
      try {
        const { url } = await this.#server.start();
        if (url !== this.#url && !signal.aborted) return onMoved(moved(url, this.#url));
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        if (reason !== told) log.error({ err: error }, 'embedded broker does not start; trying on');
        told = reason;
      }
      await sleep(REVIVAL_PAUSE_MS, undefined, { ref: false, signal }).catch(() => {});
    }
  }
}

function moved(now: string, before: string | undefined): AgentError {
  const message = `The embedded nats-server is at ${now} now, no longer at ${before}: this agent ends, and the next one finds it there`;
  return new AgentError('BROKER_UNREACHABLE', message, { transient: true });
}
