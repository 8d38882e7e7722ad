import type { FetchLimits } from './limits.js';
import type { ObjectStores } from './object-store.js';

/** How files are fetched. */
export interface Transport {
  readonly limits: FetchLimits;
  /** Ends every download. */
  readonly stop: AbortSignal;
  /** Certificate authorities (PEM) that https repositories are verified with; the system's unless given. */
  readonly caFile?: string | undefined;
  /** Where proxies are named; the process's own environment unless given. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Without it there are no `nats://` repositories. */
  readonly objects?: ObjectStores | undefined;
  /** Told of every artifact that has arrived. */
  readonly onFetched?: ((fetched: Fetched) => void) | undefined;
}

/** For metrics. */
export interface Fetched {
  readonly bytes: number;
  readonly seconds: number;
}
