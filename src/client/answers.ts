import { AckPolicy, DeliverPolicy, type JetStreamManager, type Msg, nanos, nuid, ReplayPolicy } from 'nats';
import { originOf } from '../bus/message.js';
import { inWords, isTransient } from '../bus/nats-errors.js';
import { type PullSource, pull } from '../bus/pull.js';
import { Deadline } from '../deadline.js';
import { AgentError, messageOf } from '../errors.js';
import { type Acknowledgement, parseAcknowledgement } from '../messages/ack.js';
import { HEADERS, STREAMS } from '../messages/subjects.js';
import { pause, pauseAfter } from '../retry.js';
import { isNobodyThere, isTimeout } from './connection.js';

/*
 * Reading the stream of acknowledgements, each reader through a temporary consumer of its own. The server removes it by
 * itself if this process dies, it needs no acknowledgements, and after a failure another one continues at the same
 * message. nats.js's ordered consumer does that too, but it pauses up to 45 seconds between two tries.
 */

/** Where the answers are. */
export interface AnswerSource extends PullSource {
  readonly jsm: JetStreamManager;
  /** How long the stream may be unreadable, in milliseconds, for those who do not wait for answers. */
  readonly patienceMs: number;
}

/**
 * The acknowledgement of one command. Waits for the answer, and for a server that does not answer.
 *
 * @param after sequence in the stream after which to search; 0 for the whole stream
 * @param signal ends the wait
 * @returns undefined when it did not come before that
 * @throws AgentError BROKER_REFUSED; TIMEOUT, transient, when the signal has ended the wait and the stream could not be
 *   read then; errors of nats.js
 */
export async function awaitAcknowledgement(
  source: AnswerSource,
  subject: string,
  id: string,
  after: number,
  signal: AbortSignal,
): Promise<Acknowledgement | undefined> {
  for await (const message of answersAfter(source, subject, after, { waits: true, signal })) {
    if (message.headers?.get(HEADERS.commandId) === id) return parseAcknowledgement(message.data);
  }
  return undefined;
}

const FIRST_WINDOW = 256;
const WINDOW_GROWTH = 8;

/**
 * The last acknowledgements of one host, oldest first. Reads from the end of the stream backwards in growing windows,
 * since it is unknown how many of its messages are this host's.
 *
 * @param lastSeq last sequence of the stream
 * @throws as {@link awaitAcknowledgement}; TIMEOUT when the stream cannot be read for `source.patienceMs`
 */
export async function lastAcknowledgements(
  source: AnswerSource,
  subject: string,
  limit: number,
  lastSeq: number,
  signal: AbortSignal,
): Promise<Acknowledgement[]> {
  for (let window = Math.max(FIRST_WINDOW, limit); ; window *= WINDOW_GROWTH) {
    const after = Math.max(0, lastSeq - window);
    const found: Msg[] = [];
    for await (const message of answersAfter(source, subject, after, { waits: false, signal })) found.push(message);
    if (found.length >= limit || after === 0 || signal.aborted)
      return found.slice(-limit).map(({ data }) => parseAcknowledgement(data));
  }
}

interface AnswersOptions {
  /** Whether to wait for further answers, or to end with what is there. */
  readonly waits: boolean;
  /** Ends the reading. */
  readonly signal: AbortSignal;
}

/** Answers are small, as a rule, and at most 1 MiB. */
const BATCH = 100;
/** A reader that waits asks the server again after this time. */
const EXPIRES_MS = 6_000;
/** A cluster that was just started loses requests, so none is waited for longer. */
const REQUEST_MS = 5_000;
const PAUSE = { firstMs: 100, capMs: 2_000 };

/** Makes a consumer, reads through it until it fails, and makes another one. */
async function* answersAfter(
  source: AnswerSource,
  subject: string,
  after: number,
  { waits, signal }: AnswersOptions,
): AsyncGenerator<Msg> {
  const { jsm, connection, patienceMs } = source;
  let last = after;
  /** Whether there was a stream. */
  let isKnown = false;
  let failures = 0;
  let reason: string | undefined;
  let since = performance.now();
  const fine = () => {
    failures = 0;
    reason = undefined;
    since = performance.now();
  };
  while (!signal.aborted) {
    const made = await makeConsumer(source, subject, last, { isKnown, signal });
    reason = 'reason' in made ? made.reason : reason;
    if ('consumer' in made) {
      isKnown = true;
      const from = { stream: STREAMS.acks, consumer: made.consumer, graceMs: Math.min(patienceMs, REQUEST_MS), signal };
      try {
        while (!signal.aborted) {
          const present = await pull(source, { ...from, batch: BATCH, expiresMs: 0 });
          if (present.kind === 'nothing' && !waits) return;
          const pulled =
            present.kind === 'nothing' ? await pull(source, { ...from, batch: 1, expiresMs: EXPIRES_MS }) : present;
          if (pulled.kind === 'denied') throw new AgentError('BROKER_REFUSED', unreadable(pulled.reason));
          if ('reason' in pulled) {
            reason = pulled.reason;
            break;
          }
          fine();
          for (const message of pulled.kind === 'messages' ? pulled.messages : []) {
            last = originOf(message.reply)?.seq ?? last;
            yield message;
          }
        }
      } finally {
        // Not waited for: where nobody answers, the server removes it by itself.
        void connection.guard(jsm.consumers.delete(STREAMS.acks, made.consumer)).catch(() => undefined);
      }
    }
    // Timers may be a millisecond early.
    const isOver = !waits && performance.now() - since >= patienceMs - 1;
    if (isOver || signal.aborted) break;
    failures += 1;
    await pause(pauseAfter(failures, PAUSE), signal);
  }
  if (reason !== undefined) throw new AgentError('TIMEOUT', unreadable(reason), { transient: true });
}

function unreadable(reason: string): string {
  return `The answers in ${STREAMS.acks} cannot be read: ${reason}`;
}

const INACTIVE_MS = 30_000;

/**
 * Makes a consumer for the answers after a sequence.
 *
 * @returns its name, or why there is none now
 * @throws what will not pass by itself
 */
async function makeConsumer(
  { jsm, patienceMs }: AnswerSource,
  subject: string,
  after: number,
  { isKnown, signal }: { readonly isKnown: boolean; readonly signal: AbortSignal },
): Promise<{ readonly consumer: string } | { readonly reason: string }> {
  // Before the request, to which nats.js may give the same time.
  using deadline = new Deadline(Math.min(patienceMs, REQUEST_MS), signal);
  const making = jsm.consumers.add(STREAMS.acks, {
    name: `answers-${nuid.next()}`,
    filter_subject: subject,
    ack_policy: AckPolicy.None,
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: after + 1,
    replay_policy: ReplayPolicy.Instant,
    mem_storage: true,
    num_replicas: 1,
    inactive_threshold: nanos(INACTIVE_MS),
  });
  try {
    const made = await Promise.race([making, untilAborted(deadline.signal)]);
    return made === undefined ? { reason: SILENCE } : { consumer: made.name };
  } catch (error) {
    // Where there was a stream, nobody answers only until its cluster has leaders again.
    if (!isTransient(error) || (!isKnown && isNobodyThere(error))) throw error;
    return { reason: isTimeout(error) ? SILENCE : messageOf(inWords(error, { stream: STREAMS.acks })) };
  }
}

const SILENCE = 'it does not answer; it may have no leader';

function untilAborted(signal: AbortSignal): Promise<undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }));
}
