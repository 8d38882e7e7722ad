import type { JetStreamManager } from 'nats';
import { AgentError, messageOf } from '../errors.js';
import { API_ERROR, inWords, isNoResponders, isNotFound } from './nats-errors.js';
import { continued, refusalOfNumber } from './refusals.js';

/**
 * Finds out why nobody answers for a stream: JetStream is not enabled, the stream does not exist, or it exists and takes
 * other subjects. Asks the server. Never throws.
 *
 * @param subject on which the stream is expected to take messages
 */
export async function whyNobody(jsm: JetStreamManager, stream: string, subject?: string): Promise<AgentError> {
  const what = subject === undefined ? `There is no stream ${stream}` : `No stream takes commands on ${subject}`;
  try {
    await jsm.streams.info(stream);
  } catch (cause) {
    if (isNotFound(cause)) {
      const limit = await whyNotCreated(jsm, stream);
      if (limit !== undefined)
        return new AgentError('BROKER_REFUSED', `${what}: ${continued(limit.message)}`, { cause });
      const message = `${what}: no agent or controller has created ${stream} there`;
      return new AgentError('BROKER_UNREACHABLE', message, { cause });
    }
    const nobody = isNoResponders(cause);
    const known = inWords(cause, nobody ? {} : { stream });
    const refused = nobody || (known instanceof AgentError && known.code === 'BROKER_REFUSED');
    return new AgentError(refused ? 'BROKER_REFUSED' : 'BROKER_UNREACHABLE', messageOf(known), { cause });
  }
  const message = `${what}, though ${stream} exists: it takes other subjects, or was created a moment ago`;
  return new AgentError('BROKER_UNREACHABLE', message);
}

/**
 * Whether the account's limits do not let an agent create a stream. Asks the server. Never throws.
 *
 * @returns the refusal that an agent would get; undefined if there is none, or the account may not be looked at
 */
export async function whyNotCreated(jsm: JetStreamManager, stream: string): Promise<AgentError | undefined> {
  try {
    const { limits, streams } = await jsm.getAccountInfo();
    const { max_bytes_required: sizeRequired, max_streams: most = -1 } = limits;
    if (sizeRequired) return refusalOfNumber(API_ERROR.maxBytesRequired, { stream });
    return most >= 0 && streams >= most ? refusalOfNumber(API_ERROR.tooManyStreams, { stream }) : undefined;
  } catch {
    return undefined;
  }
}
