import type { JetStreamClient, JsMsg } from 'nats';
import { type Acknowledgement, parseAcknowledgement } from '../messages/ack.js';
import { HEADERS, STREAMS } from '../messages/subjects.js';

/*
 * Reading the stream of acknowledgements. Each reader is an ordered consumer of its own, which the server forgets by
 * itself should this process die; it needs no acknowledgements and starts again where it was when the connection
 * breaks.
 */

/**
 * The acknowledgement of one command.
 *
 * @param after sequence in the stream after which to look; 0 for all of it
 * @param signal ends the wait
 * @returns undefined when it did not come before that
 */
export async function awaitAcknowledgement(
  js: JetStreamClient,
  subject: string,
  id: string,
  after: number,
  signal: AbortSignal,
): Promise<Acknowledgement | undefined> {
  const consumer = await js.consumers.get(STREAMS.acks, { filterSubjects: subject, opt_start_seq: after + 1 });
  const messages = await consumer.consume();
  const stop = () => messages.stop();
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  try {
    for await (const message of messages) {
      if (message.headers?.get(HEADERS.commandId) === id) return parseAcknowledgement(message.data);
    }
    return undefined;
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
    await consumer.delete().catch(() => undefined);
  }
}

const FIRST_WINDOW = 256;
const WINDOW_GROWTH = 8;

/**
 * The last acknowledgements of one host, oldest first. Reads from the end of the stream backwards in growing windows,
 * since there is no telling how many of its messages are this host's.
 *
 * @param lastSeq of the stream
 */
export async function lastAcknowledgements(
  js: JetStreamClient,
  subject: string,
  limit: number,
  lastSeq: number,
): Promise<Acknowledgement[]> {
  for (let window = Math.max(FIRST_WINDOW, limit); ; window *= WINDOW_GROWTH) {
    const after = Math.max(0, lastSeq - window);
    const found = await readAll(js, subject, after);
    if (found.length >= limit || after === 0) return found.slice(-limit).map(({ data }) => parseAcknowledgement(data));
  }
}

/** What is in the stream now, after a sequence. */
async function readAll(js: JetStreamClient, subject: string, after: number): Promise<JsMsg[]> {
  const consumer = await js.consumers.get(STREAMS.acks, { filterSubjects: subject, opt_start_seq: after + 1 });
  try {
    if ((await consumer.info()).num_pending === 0) return [];
    const found: JsMsg[] = [];
    const messages = await consumer.consume();
    for await (const message of messages) {
      found.push(message);
      if (message.info.pending === 0) break;
    }
    messages.stop();
    return found;
  } finally {
    await consumer.delete().catch(() => undefined);
  }
}
