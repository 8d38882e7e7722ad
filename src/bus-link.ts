import type { CommandBus } from './agent.js';
import { CommandStream } from './bus/commands.js';
import { type Bus, connectBus } from './bus/connect.js';
import type { Delivery, Disposition, StreamPosition } from './bus/delivery.js';
import { EmbeddedServer } from './bus/embedded.js';
import { Outbox } from './bus/outbox.js';
import { Publisher } from './bus/publish.js';
import { Registration } from './bus/registration.js';
import { type Service, startService } from './bus/service.js';
import { ensureStreams } from './bus/streams.js';
import type { Config } from './config.js';
import type { EventKind } from './messages/events.js';
import type { L3AFALLHOSTDATA } from './messages/snapshot.js';
import { hostToken, type Subjects, subjectsFor } from './messages/subjects.js';
import type { Journal } from './store/journal.js';
import type { Logger } from './telemetry/log.js';
import type { Metrics } from './telemetry/metrics.js';

export interface LinkOptions {
  readonly config: Config;
  readonly version: string;
  readonly log: Logger;
  readonly journal: Journal;
  readonly metrics: Metrics;
  /** Ends the wait for a broker. */
  readonly signal: AbortSignal;
  readonly startedAt: Date;
  readonly interfaces: () => ReadonlyMap<string, number>;
  readonly snapshot: () => Promise<L3AFALLHOSTDATA>;
  /** Asked when commands are about to be consumed again after a loss; see CommandStreamOptions. */
  readonly onResume: (position: StreamPosition) => Promise<number | undefined>;
  readonly onConflict: (error: Error) => void;
}
