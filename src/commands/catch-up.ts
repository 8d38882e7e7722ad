import type { Turn } from '../apply/lane.js';
import type { Delivery, DeliveryHead } from '../bus/delivery.js';
import type { DesiredState } from '../domain/desired.js';
import { isBare } from '../domain/observed.js';
import { RefusedError } from '../errors.js';
import type { Acknowledgement } from '../messages/ack.js';
import type { Host } from '../reconcile/host.js';
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
  /** Throws for an impossible desired state. */
  readonly accept: (desired: DesiredState) => void;
  readonly attempts: Attempts;
  /** Ends the retries of transient faults. */
  readonly signal: AbortSignal;
  /** Reads the commands between two sequences, perhaps several times from the beginning. */
  readonly read: (range: readonly [number, number], begin: () => (delivery: Delivery) => void) => Promise<void>;
}

/** How long transient faults are retried. After that, every repair tries again to reach the desired state. */
const PATIENCE_MS = 10_000;

/**
 * Folds a backlog into one desired state, reconciles once, and answers all its commands in one write to the journal. A
 * request that cannot be applied for now (its interface is absent, or its artifact cannot be fetched) becomes desired
 * anyway: the sender relies on it, and perhaps nobody would send it again.
 *
 * @returns the answer of the command that stands for all. Undefined if the backlog must be handled one by one: nothing
 *   in it can run, or the resulting state cannot be applied, so that each command must succeed or fail for itself
 * @throws Interrupted if the agent is stopped meanwhile
 */
export async function catchUp(
  turn: Turn,
  deliveries: readonly DeliveryHead[],
  options: CatchUpOptions,
): Promise<Acknowledgement | undefined> {
  const { journal, host, hostName, log, attempts, signal } = options;
  const owed = owedAnswers(deliveries, journal);
  const result = await replayOf(owed, options);
  if (result?.last === undefined || result.desired === null) return undefined;
  if (!(await isFounded(turn, result, options))) return undefined;

  // An agent that died on a backlog does not know on which command. It stops folding while each command still has an
  // attempt of its own: the last command must not be quarantined because of another one.
  const begun = owed.reduce((sum, delivery) => sum + (journal.find(keyOf(delivery))?.attempts ?? 0), 0);
  if (begun >= QUARANTINE_AFTER - 1) return undefined;
  const { entry, command } = result.last;
  const { delivery } = entry;
  const receivedAt = new Date();
  await attempts.begin(delivery);
  const limits = { deadline: Date.now() + PATIENCE_MS, signal };
  const report = await host.apply(turn, journal.desired, result.desired, log.child({ op: delivery.id }), limits);
  const postponed = report.status === 'failed' && report.transient && report.undone === true;
  if (report.status === 'failed' && !postponed) return undefined;
  const receipt = { ...receiptOf(entry, hostName), receivedAt };
  const answer = (postponed ? answerPostponed : answerReported)(receipt, command, report);
  await journal.finishMany(finishesOf(result, delivery, answer, options));
  return answer;
}

/** The commands that were not answered yet, without duplicates. */
function owedAnswers(deliveries: readonly DeliveryHead[], journal: Journal): DeliveryHead[] {
  const seen = new Set<string>();
  return deliveries
    .filter((delivery) => journal.find(keyOf(delivery))?.status === undefined)
    .filter(({ id }) => !seen.has(id) && seen.add(id));
}

/** @returns undefined if the stream no longer contains all of them */
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

/**
 * Whether the result of the fold is well-founded. Deltas alone define the desired state only if their basis is known or
 * if nothing runs. Otherwise each delta must be refused.
 */
async function isFounded(turn: Turn, { entries }: Replay, { journal, host }: CatchUpOptions): Promise<boolean> {
  if (journal.desired !== null) return true;
  if (entries.some(({ what, delivery }) => what === 'folded' && delivery.verb === 'deploy')) return true;
  return isBare(await host.observe(turn));
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
