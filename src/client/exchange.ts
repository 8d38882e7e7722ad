import { ErrorCode as NatsCode, NatsError } from 'nats';
import type { ConnectionWatch } from '../bus/connection.js';
import { type About, refusalOf } from '../bus/refusals.js';
import { AgentError, messageOf } from '../errors.js';
import { retry } from '../retry.js';
import { isNobodyThere, isTimeout } from './connection.js';

export interface ExchangeOptions {
  /** Finds out why nobody answers, or why there is no such stream. Must not throw. */
  readonly nobody: () => Promise<AgentError> | AgentError;
  /** For the words of a refusal. */
  readonly about?: About | undefined;
  /** How long to wait for the connection if it breaks during the exchange, in milliseconds. */
  readonly patienceMs: number;
  /** When the whole exchange has to be over, by `performance.now()`; absent for no such limit. */
  readonly end?: number;
}

/** A server that was just started needs a moment until its streams answer. */
const START_PAUSE = { firstMs: 100, capMs: 100 };

/**
 * An exchange with the server that may be repeated. If the connection breaks meanwhile, the exchange starts again as
 * soon as the connection is back. nats.js would let it run into its time-out, without an answer.
 *
 * @throws AgentError BROKER_REFUSED when the server has answered with a refusal; BROKER_UNREACHABLE, transient, when the
 *   connection does not come back in time; TIMEOUT; `nobody`
 */
export async function exchanged<T>(
  watch: ConnectionWatch,
  exchange: () => Promise<T>,
  { nobody, about, patienceMs, end = Number.POSITIVE_INFINITY }: ExchangeOptions,
): Promise<T> {
  /** Until when a broken connection may come back. Negative infinity while it has not broken. */
  let deadline = Number.NEGATIVE_INFINITY;
  const isPassing = (error: unknown) => {
    const lost = isLost(error);
    if (lost && deadline < 0) deadline = Math.min(performance.now() + patienceMs, end);
    const mayComeBack = performance.now() < deadline && !watch.closed.aborted;
    // After a restart of all its servers, JetStream of a cluster has no leader for some seconds, and says so.
    return mayComeBack && (lost || isNobodyThere(error) || refusalOf(error)?.transient === true);
  };
  const onRetry = () => watch.untilConnected(AbortSignal.timeout(Math.max(0, Math.ceil(deadline - performance.now()))));
  try {
    return await retry(() => watch.guard(exchange()), { backoff: START_PAUSE, isPassing, onRetry });
  } catch (error) {
    throw isNobodyThere(error) ? await nobody() : translated(error, about, patienceMs);
  }
}

function isLost(error: unknown): boolean {
  if (error instanceof AgentError) return error.code === 'BROKER_UNREACHABLE';
  return error instanceof NatsError && (error.code === NatsCode.Disconnect || error.code === NatsCode.ConnectionClosed);
}

function translated(error: unknown, about: About | undefined, patienceMs: number): unknown {
  if (isLost(error)) {
    const message = `The connection to NATS was lost and did not come back within ${patienceMs / 1000} s`;
    return new AgentError('BROKER_UNREACHABLE', message, { cause: error, transient: true });
  }
  if (error instanceof AgentError) return error;
  const refusal = refusalOf(error, about);
  if (refusal !== undefined) return refusal;
  if (isTimeout(error)) {
    const within = `within ${patienceMs / 1000} s`;
    const message =
      about?.stream === undefined
        ? `No answer ${within}`
        : `No answer from ${about.stream} ${within}; it may have no leader`;
    return new AgentError('TIMEOUT', message, { cause: error, transient: true });
  }
  return new AgentError('BROKER_UNREACHABLE', `NATS failed: ${messageOf(error)}`, { cause: error, transient: true });
}
