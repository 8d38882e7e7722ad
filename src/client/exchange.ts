import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode as NatsCode, NatsError } from 'nats';
import type { ConnectionWatch } from '../bus/connection.js';
import { AgentError } from '../errors.js';
import { isNobodyThere, isTimeout, reasonOf } from './connection.js';

export interface ExchangeOptions {
  /** What it means that nobody is there to answer. */
  readonly nobody: AgentError;
  /** How long to wait for a connection that breaks under the exchange, in milliseconds. */
  readonly patienceMs: number;
}

/** A server that was just started takes a moment until its streams answer. */
const START_PAUSE_MS = 100;

/**
 * An exchange with the server that may be repeated. When the connection breaks under it, it is begun again as soon as the connection is
 * back: nats.js would let it run into its time-out, and the answer would not come.
 *
 * @throws AgentError BROKER_UNREACHABLE, transient, when the connection does not come back in time; TIMEOUT; `nobody`
 */
export async function exchanged<T>(
  watch: ConnectionWatch,
  exchange: () => Promise<T>,
  { nobody, patienceMs }: ExchangeOptions,
): Promise<T> {
  /** Until when a connection that broke may come back; infinitely long ago before one did. */
  let deadline = Number.NEGATIVE_INFINITY;
  for (;;) {
    try {
      return await watch.guard(exchange());
    } catch (error) {
      const lost = isLost(error);
      if (lost && deadline < 0) deadline = performance.now() + patienceMs;
      const mayComeBack = performance.now() < deadline && !watch.closed.aborted;
      if (!mayComeBack || !(lost || isNobodyThere(error))) throw translated(error, nobody, patienceMs);
    }
    await watch.untilConnected(AbortSignal.timeout(Math.max(0, Math.ceil(deadline - performance.now()))));
    await sleep(START_PAUSE_MS);
  }
}

function isLost(error: unknown): boolean {
  if (error instanceof AgentError) return error.code === 'BROKER_UNREACHABLE';
  return error instanceof NatsError && (error.code === NatsCode.Disconnect || error.code === NatsCode.ConnectionClosed);
}

function translated(error: unknown, nobody: AgentError, patienceMs: number): unknown {
  if (isLost(error)) {
    const message = `The connection to NATS was lost and did not come back within ${patienceMs / 1000} s`;
    return new AgentError('BROKER_UNREACHABLE', message, { cause: error, transient: true });
  }
  if (error instanceof AgentError) return error;
  if (isNobodyThere(error)) return nobody;
  if (isTimeout(error)) {
    const message = `No answer within ${patienceMs / 1000} s`;
    return new AgentError('TIMEOUT', message, { cause: error, transient: true });
  }
  return new AgentError('BROKER_UNREACHABLE', `NATS failed: ${reasonOf(error)}`, { cause: error, transient: true });
}
