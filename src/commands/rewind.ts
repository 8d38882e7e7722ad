import { type Continuity, continuityOfStream } from '../domain/continuity.js';
import type { Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import type { CommandBus } from './command-bus.js';

export interface RewindOptions {
  readonly bus: Pick<CommandBus, 'position' | 'at' | 'publishEvent'>;
  readonly journal: Journal;
  readonly log: Logger;
}

/**
 * Detects a stream that was put back to an earlier state or created again. Call this whenever the stream was out of
 * reach.
 */
export async function lookForRewind(options: RewindOptions): Promise<void> {
  const { bus, journal } = options;
  if (journal.stream === undefined) return;
  const { lastSeq } = journal.stream;
  const now = await bus.position();
  const there = lastSeq === 0 ? undefined : await bus.at(lastSeq);
  await noteRewind(continuityOfStream(now, journal.stream, there?.storedAt), options);
}

/** After a rewind, commands cannot build on what was applied. Deltas are refused until a deploy states everything. */
export async function noteRewind(continuity: Continuity, { bus, journal, log }: RewindOptions): Promise<void> {
  if (continuity !== 'put-back' && continuity !== 'made-anew') return;
  const now = await bus.position();
  const what = continuity === 'put-back' ? 'was put back to an earlier state' : 'was created again';
  const [reason, data] = [`The command stream ${what}`, { known: journal.stream, now }];
  log.error(data, 'the command stream does not continue where it was');
  // In this order: an agent that dies between the two writes detects the rewind again.
  await journal.awaitDeploy(reason);
  const storedAt = journal.stream?.storedAt ?? '';
  await journal.moveStream({ created: now.created, lastSeq: 0, storedAt, newAfter: now.lastSeq });
  bus.publishEvent('rewind', reason, data);
  bus.publishEvent('resync-required', `${reason}; add and delete are refused until the next deploy`);
}
