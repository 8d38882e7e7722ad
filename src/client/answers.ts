import type { Consumer, ConsumerMessages, JetStreamClient, JsMsg } from 'nats';
import { Deadline } from '../deadline.js';
import { type Acknowledgement, parseAcknowledgement } from '../messages/ack.js';
import { HEADERS, STREAMS } from '../messages/subjects.js';

/*
 * Reading the stream of acknowledgements. Each reader is an ordered consumer of its own. The server removes it by
 * itself if this process dies, it needs no acknowledgements, and after a broken connection it continues at the same
 * message.
 */

/**
 * The acknowledgement of one command.
 *
 * @param after sequence in the stream after which to search; 0 for the whole stream
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
  let reader: AnswerReader | undefined;
  while (reader === undefined) {
    if (signal.aborted) return undefined;
    reader = await openInTime(js, subject, after, signal);
  }
  const { consumer, messages } = reader;
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

interface AnswerReader {
  readonly consumer: Consumer;
  readonly messages: ConsumerMessages;
}

/** A cluster that was just started loses requests. */
const OPEN_MS = 5_000;

/** @returns undefined when the server did not answer in time, or the signal was aborted */
async function openInTime(
  js: JetStreamClient,
  subject: string,
  after: number,
  signal: AbortSignal,
): Promise<AnswerReader | undefined> {
  using deadline = new Deadline(OPEN_MS, signal);
  const opening = open(js, subject, after);
  const reader = await Promise.race([opening, untilAborted(deadline.signal)]);
  if (reader === undefined) void opening.then(({ messages }) => messages.stop()).catch(() => {});
  return reader;
}

async function open(js: JetStreamClient, subject: string, after: number): Promise<AnswerReader> {
  const consumer = await js.consumers.get(STREAMS.acks, { filterSubjects: subject, opt_start_seq: after + 1 });
  return { consumer, messages: await consumer.consume() };
}

function untilAborted(signal: AbortSignal): Promise<undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }));
}

const FIRST_WINDOW = 256;
const WINDOW_GROWTH = 8;

/**
 * The last acknowledgements of one host, oldest first. Reads from the end of the stream backwards in growing windows,
 * since it is unknown how many of its messages are this host's.
 *
 * @param lastSeq last sequence of the stream
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

/** The messages that are in the stream now, after a sequence. */
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
