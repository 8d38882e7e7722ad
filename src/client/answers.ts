import { setTimeout as sleep } from 'node:timers/promises';
import { AckPolicy, DeliverPolicy, type JetStreamManager, type Msg, nanos, nuid, ReplayPolicy } from 'nats';
import { originOf } from '../bus/message.js';
import { type PullSource, pull } from '../bus/pull.js';
import { Deadline } from '../deadline.js';
import { AgentError } from '../errors.js';
import { type Acknowledgement, parseAcknowledgement } from '../messages/ack.js';
import { HEADERS, STREAMS } from '../messages/subjects.js';

/*
 * Reading the stream of acknowledgements, each reader through a temporary consumer of its own. The server removes it by
 * itself if this process dies, it needs no acknowledgements, and after a failure another one continues at the same
 * message. nats.js's ordered consumer does that too, but it pauses up to 45 seconds between two tries.
 */

/** Where the answers are. */
export interface AnswerSource extends PullSource {
  readonly jsm: JetStreamManager;
}

/**
 * The acknowledgement of one command.
 *
 * @param after sequence in the stream after which to search; 0 for the whole stream
 * @param signal ends the wait
 * @returns undefined when it did not come before that
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
 * @throws AgentError TIMEOUT, transient, when the stream does not answer
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
  /** Whether to wait for further answers, and for a server that does not answer; or to end with what is there. */
  readonly waits: boolean;
  /** Ends the reading. */
  readonly signal: AbortSignal;
}

/** Answers are small, as a rule, and at most 1 MiB. */
const BATCH = 100;
/** A reader that waits asks the server again after this time. */
const EXPIRES_MS = 6_000;
const PAUSE_MS = 100;

async function* answersAfter(
  source: AnswerSource,
  subject: string,
  after: number,
  { waits, signal }: AnswersOptions,
): AsyncGenerator<Msg> {
  const { jsm, connection } = source;
  let last = after;
  while (!signal.aborted) {
    const consumer = await madeInTime(jsm, subject, last, signal);
    if (consumer === undefined) {
      if (!waits) throw silent(`no answer within ${MAKE_MS / 1000} s; it may have no leader`);
      continue;
    }
    try {
      const from = { stream: STREAMS.acks, consumer, signal };
      for (;;) {
        const present = await pull(source, { ...from, batch: BATCH, expiresMs: 0 });
        if (present.kind === 'nothing' && !waits) return;
        const pulled =
          present.kind === 'nothing' ? await pull(source, { ...from, batch: 1, expiresMs: EXPIRES_MS }) : present;
        if (pulled.kind === 'lost' || pulled.kind === 'unanswered') {
          if (!waits) throw silent(pulled.reason);
          break;
        }
        if (signal.aborted) return;
        for (const message of pulled.kind === 'messages' ? pulled.messages : []) {
          last = originOf(message.reply)?.seq ?? last;
          yield message;
        }
      }
    } finally {
      // Where it is not known how it fares, the server removes it by itself.
      const removed = connection.guard(jsm.consumers.delete(STREAMS.acks, consumer));
      await inTime(removed, REMOVE_MS).catch(() => undefined);
    }
    await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
  }
}

function silent(reason: string): AgentError {
  return new AgentError('TIMEOUT', `The answers in ${STREAMS.acks} cannot be read: ${reason}`, { transient: true });
}

/** A cluster that was just started loses requests. */
const MAKE_MS = 5_000;
const REMOVE_MS = 1_000;
const INACTIVE_MS = 30_000;

/** @returns the consumer's name; undefined when the server did not answer in time, or the signal was aborted */
async function madeInTime(
  jsm: JetStreamManager,
  subject: string,
  after: number,
  signal: AbortSignal,
): Promise<string | undefined> {
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
  return (await inTime(making, MAKE_MS, signal))?.name;
}

/** @returns undefined when the time was over first, or a signal was aborted */
async function inTime<T>(task: Promise<T>, ms: number, ...signals: readonly AbortSignal[]): Promise<T | undefined> {
  using deadline = new Deadline(ms, ...signals);
  return await Promise.race([task, untilAborted(deadline.signal)]);
}

function untilAborted(signal: AbortSignal): Promise<undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }));
}
