import type { Lane } from '../apply/lane.js';
import type { Delivery, DeliveryHead } from '../bus/delivery.js';
import { refusalOf } from '../domain/admission.js';
import { continuityOfMessage } from '../domain/continuity.js';
import { type DesiredState, NOTHING_DESIRED } from '../domain/desired.js';
import { fold } from '../domain/fold.js';
import type { Acknowledgement } from '../messages/ack.js';
import type { ChainRules } from '../plan/check.js';
import type { Host } from '../reconcile/host.js';
import type { Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import type { Attempts } from './attempts.js';
import { catchUp } from './catch-up.js';
import type { CommandBus } from './command-bus.js';
import { readDelivery } from './reading.js';
import { accept } from './wanted.js';

export interface BacklogOptions {
  readonly hostName: string;
  readonly ackSubject: string;
  readonly rules: ChainRules;
  readonly journal: Journal;
  readonly lane: Lane;
  readonly host: Host;
  readonly bus: CommandBus;
  readonly log: Logger;
  readonly serverNow: () => number;
  /** Ends the retries of transient faults. */
  readonly signal: AbortSignal;
  readonly attempts: Attempts;
  /** Called with the answer of each command that stood for others. */
  readonly onAnswer: (answer: Acknowledgement) => void;
}

/**
 * Handles the commands that the stream holds for this host when the agent starts, in one reconcile if possible. On a
 * host without a record, a deploy that cannot be applied must not hide what was applied before it. So the search goes
 * back to the last deploy that can be applied.
 *
 * @returns the sequence after which commands must be handled one by one
 * @throws Interrupted if the agent is stopped meanwhile
 */
export async function takeBacklog(options: BacklogOptions): Promise<number> {
  const { bus, journal, log } = options;
  const after = journal.stream?.lastSeq ?? null;
  const hopeless = new Set<string>();
  for (;;) {
    const isUsable = (deploy: Delivery) => !hopeless.has(deploy.id) && wouldRun(deploy, options);
    const { deliveries, upTo } = await bus.backlog(after, isUsable);
    if (deliveries[0] === undefined) return Math.max(upTo, after ?? 0);
    const end = deliveries.findIndex(({ id }) => hopeless.has(id));
    const foldable = end === -1 ? deliveries : deliveries.slice(0, end);
    const [first, last] = [foldable[0], foldable.at(-1)];
    if (first === undefined || last === undefined) return deliveries[0].seq - 1;
    const isSearching = after === null && first.verb === 'deploy';
    const follow = foldable.every((delivery) => continuityOfMessage(delivery, journal.stream) === 'follows');
    if (!follow || (deliveries.length === 1 && !isSearching)) return first.seq - 1;
    const folded = await foldAndApply(foldable, options);
    log.info({ commands: deliveries.length, folded }, 'caught up with the stream');
    if (folded) return end === -1 ? upTo : last.seq;
    if (!isSearching) return first.seq - 1;
    if (foldable.length > 1 && (await foldAndApply([first], options))) return first.seq;
    hopeless.add(first.id);
  }
}

/** Whether a deploy would run. If so, earlier commands do not matter. */
function wouldRun(deploy: Delivery, { hostName, journal, serverNow, rules }: BacklogOptions): boolean {
  const reading = readDelivery(deploy, hostName);
  if (!reading.ok || refusalOf('deploy', reading.envelope, journal, serverNow()) !== undefined) return false;
  try {
    accept(fold(NOTHING_DESIRED, reading.command), rules);
    return true;
  } catch {
    return false;
  }
}

async function foldAndApply(deliveries: readonly DeliveryHead[], options: BacklogOptions): Promise<boolean> {
  const { bus, lane, rules, attempts, onAnswer } = options;
  const acceptable = (desired: DesiredState) => accept(desired, rules);
  const read: CommandBus['bodies'] = (range, begin) => bus.bodies(range, begin);
  const answer = await lane.run((turn) => catchUp(turn, deliveries, { ...options, accept: acceptable, read }));
  if (answer === undefined) return false;
  for (const delivery of deliveries) attempts.finished(delivery);
  onAnswer(answer);
  await bus.flushOutbox();
  bus.publishSnapshotSoon();
  return true;
}
