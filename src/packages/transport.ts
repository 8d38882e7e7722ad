import type { FetchLimits } from './limits.js';
import type { ObjectStores } from './object-store.js';

/** How files are fetched. */
export interface Transport {
  readonly limits: FetchLimits;
  /** Aborts every download. */
  readonly stop: AbortSignal;
  /** File of CA certificates (PEM) to verify https repositories with; the system's by default. */
  readonly caFile?: string | undefined;
  /** Environment that names the proxies; the process's own by default. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Required for `nats://` repositories. */
  readonly objects?: ObjectStores | undefined;
  /** Called for every artifact that was fetched. */
  readonly onFetched?: ((fetched: Fetched) => void) | undefined;
}

/** For metrics. */
export interface Fetched {
  readonly bytes: number;
  readonly seconds: number;
}
