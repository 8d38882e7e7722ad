import type { Delivery, DeliveryHead } from '../bus/delivery.js';
import type { DesiredState } from '../domain/desired.js';
import { isBare } from '../domain/observed.js';
import { RefusedError } from '../errors.js';
import type { Host } from '../host/host.js';
import type { Acknowledgement } from '../messages/ack.js';
import type { Finish, Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import {
  answerFolded,
  answerPostponed,
  answerRefused,
  answerRejected,
  answerReported,
  finishOf,
  type Receipt,
} from './answer.js';
import { type Attempts, QUARANTINE_AFTER } from './attempts.js';
import { keyOf, readDelivery } from './reading.js';
import { beginReplay, type Replay, type ReplayEntry, type Replaying } from './replay.js';

export interface CatchUpOptions {
  readonly hostName: string;
  readonly ackSubject: string;
  readonly journal: Journal;
  readonly host: Host;
  readonly log: Logger;
  readonly serverNow: () => number;
  /** Throws for a desired state that cannot be. */
  readonly accept: (desired: DesiredState) => void;
  readonly attempts: Attempts;
  /** Ends the attempts at what passes by itself. */
  readonly signal: AbortSignal;
  /** Hands over the commands between two sequences, perhaps several times from the beginning. */
  readonly read: (range: readonly [number, number], begin: () => (delivery: Delivery) => void) => Promise<void>;
}

/** How long what passes by itself is waited for; what is desired then is tried again by every repair. */
const PATIENCE_MS = 10_000;

/**
 * Folds a backlog into one desired state, reconciles once, and answers every command of it in one write to the journal. For the lane.
 * What cannot be run for now, since its interface is absent or its artifact cannot be fetched, is desired all the same: whoever sent it
 * counts on its being there, and nobody may be there to send it again.
 *
 * @returns the answer of the command that stands for all; undefined if the backlog has to be gone through one by one: because nothing
 *   in it can run, or because what it comes to cannot be applied and each command has to succeed or fail for itself
 * @throws Interrupted when the agent is told to stop meanwhile
 */
export async function catchUp(
  deliveries: readonly DeliveryHead[],
  options: CatchUpOptions,
): Promise<Acknowledgement | undefined> {
  const { journal, host, hostName, log, attempts, signal } = options;
  const owed = owedAnswers(deliveries, journal);
  const result = await replayOf(owed, options);
  if (result?.last === undefined || result.desired === null) return undefined;
  if (!(await isFounded(result, options))) return undefined;

  // An agent that died over a backlog cannot tell on which command. It stops folding while each still has an attempt of its own: one
  // that merely came last must not be quarantined for another.
  const begun = owed.reduce((sum, delivery) => sum + (journal.find(keyOf(delivery))?.attempts ?? 0), 0);
  if (begun >= QUARANTINE_AFTER - 1) return undefined;
  const { entry, command } = result.last;
  const { delivery } = entry;
  await attempts.begin(delivery);
  const limits = { deadline: Date.now() + PATIENCE_MS, signal };
  const report = await host.apply(journal.desired, result.desired, log.child({ op: delivery.id }), limits);
  const postponed = report.status === 'failed' && report.transient && report.undone === true;
  if (report.status === 'failed' && !postponed) return undefined;
  const answer = (postponed ? answerPostponed : answerReported)(receiptOf(entry, hostName), command, report);
  await journal.finishMany(finishesOf(result, delivery, answer, options));
  return answer;
}

/** The commands that were not answered yet, each once. */
function owedAnswers(deliveries: readonly DeliveryHead[], journal: Journal): DeliveryHead[] {
  const seen = new Set<string>();
  return deliveries
    .filter((delivery) => journal.find(keyOf(delivery))?.status === undefined)
    .filter(({ id }) => !seen.has(id) && seen.add(id));
}

/** @returns undefined if the stream has not got all of them any more */
async function replayOf(owed: readonly DeliveryHead[], options: CatchUpOptions): Promise<Replay | undefined> {
  const { journal, hostName, serverNow, accept, read } = options;
  const [first, last] = [owed[0], owed.at(-1)];
  if (first === undefined || last === undefined) return undefined;
  const wanted = new Set(owed.map(({ seq }) => seq));
  let replaying: Replaying | undefined;
  await read([first.seq, last.seq], () => {
    const fresh = beginReplay(journal, serverNow(), accept);
    replaying = fresh;
    return (delivery) => {
      if (wanted.has(delivery.seq)) fresh.take(delivery, readDelivery(delivery, hostName));
    };
  });
  const result = replaying?.result();
  return result?.entries.length === owed.length ? result : undefined;
}

/** Deltas alone say what is desired only where that is known, or where nothing runs; elsewhere each has to be refused. */
async function isFounded({ entries }: Replay, { journal, host }: CatchUpOptions): Promise<boolean> {
  if (journal.desired !== null) return true;
  if (entries.some(({ what, delivery }) => what === 'folded' && delivery.verb === 'deploy')) return true;
  return isBare(await host.observe());
}

function finishesOf(result: Replay, last: DeliveryHead, answer: Acknowledgement, options: CatchUpOptions): Finish[] {
  const { entries, desired, generation } = result;
  const clearsAwait = entries.some(({ delivery, what }) => what === 'folded' && delivery.verb === 'deploy');
  return entries.map((entry) => {
    const key = keyOf(entry.delivery);
    if (entry.delivery !== last || desired === null) {
      return finishOf(key, answerOf(entry, last.id, options.hostName), options);
    }
    return { ...finishOf(key, answer, options), desired, ...(generation !== undefined && { generation }), clearsAwait };
  });
}

function answerOf(entry: ReplayEntry, by: string, hostName: string): Acknowledgement {
  const receipt = receiptOf(entry, hostName);
  if (entry.what === 'refused') return answerRefused(receipt, entry.refusal);
  if (entry.what === 'rejected') return answerRejected(receipt, new RefusedError(entry.faults));
  return answerFolded(receipt, by);
}

function receiptOf({ delivery, gen }: ReplayEntry, host: string): Receipt {
  return { host, delivery, gen, receivedAt: new Date() };
}
