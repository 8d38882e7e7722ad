import { answerFolded, answerRefused, answerRejected, answerReported, finishOf, type Receipt } from './answer.js';
import type { Delivery } from './bus/delivery.js';
import type { DesiredState } from './domain/desired.js';
import type { Host } from './host.js';
import type { Acknowledgement } from './messages/ack.js';
import { absentInterfaces } from './plan/check.js';
import { keyOf, readDelivery } from './reading.js';
import { type Replay, type ReplayEntry, replay } from './replay.js';
import type { Finish, Journal } from './store/journal.js';
import type { Logger } from './telemetry/log.js';

export interface CatchUpOptions {
  readonly hostName: string;
  readonly ackSubject: string;
  readonly journal: Journal;
  readonly host: Host;
  readonly log: Logger;
  readonly serverNow: () => number;
  /** Throws for a desired state that cannot be. */
  readonly accept: (desired: DesiredState) => void;
  /** Notes that a command is about to take effect. */
  readonly begin: (delivery: Delivery) => Promise<number>;
  /** How often a command may be begun without being finished. */
  readonly attempts: number;
}

/**
 * Folds a backlog into one desired state, reconciles once, and answers every command of it in one write to the journal. For the lane.
 *
 * @returns the answer of the command that stands for all; undefined if the backlog has to be gone through one by one: because nothing
 *   in it can run, or because what it comes to cannot be applied and each command has to succeed or fail for itself
 */
export async function catchUp(
  deliveries: readonly Delivery[],
  options: CatchUpOptions,
): Promise<Acknowledgement | undefined> {
  const { journal, host, hostName, log, serverNow, accept, begin, attempts } = options;
  const seen = new Set<string>();
  const readings = deliveries
    .filter((delivery) => journal.find(keyOf(delivery))?.status === undefined)
    .filter(({ id }) => !seen.has(id) && seen.add(id))
    .map((delivery) => ({ delivery, reading: readDelivery(delivery, hostName) }));
  const result = replay(readings, journal, serverNow(), accept);
  const last = result.representative === undefined ? undefined : result.entries[result.representative];
  if (last === undefined || result.desired === null || last.what !== 'folded') return undefined;

  if (!(await isFounded(result, options))) return undefined;
  // Of several commands, one interface that is absent must not keep the others from being restored.
  const alone = readings.length === 1 && last.command.verb !== 'delete';
  if (alone && absentInterfaces(result.desired, await host.observe()).length > 0) return undefined;

  // An agent that died over a backlog cannot tell on which command. It stops folding while each still has an attempt of its own: one
  // that merely came last must not be quarantined for another.
  const begun = readings.reduce((sum, entry) => sum + (journal.find(keyOf(entry.delivery))?.attempts ?? 0), 0);
  if (begun >= attempts - 1) return undefined;
  const { delivery } = last;
  await begin(delivery);
  const report = await host.apply(journal.desired, result.desired, log.child({ op: delivery.id }));
  if (report.status === 'failed') return undefined;
  const answer = answerReported(receiptOf(last, hostName), last.command, report);
  await journal.finishMany(finishesOf(result, delivery, answer, options));
  return answer;
}

/** Deltas alone say what is desired only where that is known, or where nothing runs; elsewhere each has to be refused. */
async function isFounded({ entries }: Replay, { journal, host }: CatchUpOptions): Promise<boolean> {
  if (journal.desired !== null) return true;
  if (entries.some(({ what, delivery }) => what === 'folded' && delivery.verb === 'deploy')) return true;
  const { hooks } = await host.observe();
  return hooks.every(({ generations }) => generations.length === 0);
}

function finishesOf(result: Replay, last: Delivery, answer: Acknowledgement, options: CatchUpOptions): Finish[] {
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
  if (entry.what === 'rejected') return answerRejected(receipt, entry.error);
  return answerFolded(receipt, by);
}

function receiptOf({ delivery, gen }: ReplayEntry, host: string): Receipt {
  return { host, delivery, gen, receivedAt: new Date() };
}
