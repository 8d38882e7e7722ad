import { setTimeout as sleep } from 'node:timers/promises';
import { EmbeddedServer } from '../bus/embedded.js';
import { AgentError, messageOf } from '../errors.js';
import type { Logger } from '../telemetry/log.js';

export interface OwnBrokerOptions {
  readonly stateDir: string;
  readonly log: Logger;
  /** Ends the attempts to restart the server. */
  readonly signal: AbortSignal;
  /** Called when the server is no longer at the address that the connection uses. */
  readonly onMoved: (error: AgentError) => void;
}

const REVIVAL_PAUSE_MS = 2_000;

/**
 * The nats-server of an agent without a fleet. It is started or adopted by the agent, and started again when it dies.
 */
export class OwnBroker {
  readonly #options: OwnBrokerOptions;
  readonly #server: EmbeddedServer;
  #access: string | undefined;
  #url: string | undefined;
  #reviving: Promise<void> | undefined;

  constructor(options: OwnBrokerOptions) {
    this.#options = options;
    this.#server = new EmbeddedServer({ stateDir: options.stateDir, logger: options.log });
  }

  /** @returns its URL with user and password, for connecting */
  async start(): Promise<string> {
    const { url, access } = await this.#server.start();
    this.#url = url;
    this.#access = access;
    return access;
  }

  /** Call it when the connection is lost. @param connected whether it is up again */
  revive(connected: () => boolean): void {
    this.#reviving ??= this.#revive(connected).finally(() => {
      this.#reviving = undefined;
    });
  }

  async stop(): Promise<void> {
    await this.#reviving;
    await this.#server.stop();
  }

  /**
   * The server is started again on the same port, where the connection finds it. If that is impossible, or another
   * server has been started for this state directory, only a new agent finds it.
   */
  async #revive(connected: () => boolean): Promise<void> {
    const { log, signal, onMoved } = this.#options;
    let told: string | undefined;
    while (!signal.aborted && !connected()) {
      try {
        const { url, access } = await this.#server.start();
        if (access !== this.#access && !signal.aborted) return onMoved(moved(url, this.#url));
      } catch (error) {
        const reason = messageOf(error);
        if (reason !== told) log.error({ err: error }, 'could not start the embedded broker; trying again');
        told = reason;
      }
      await sleep(REVIVAL_PAUSE_MS, undefined, { ref: false, signal }).catch(() => {});
    }
  }
}

function moved(now: string, before: string | undefined): AgentError {
  const what = now === before ? 'has another password' : `has moved from ${before} to ${now}`;
  const message = `The embedded nats-server ${what}: this agent ends, and the next one finds it there`;
  return new AgentError('BROKER_UNREACHABLE', message, { transient: true });
}
