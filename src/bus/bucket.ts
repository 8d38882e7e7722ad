import type { KV } from 'nats';
import type { Bus } from './connect.js';

/** A key-value bucket that {@link file://./streams.ts} has made sure of; asks nothing of the server. */
export function openBucket(bus: Bus, name: string): Promise<KV> {
  return bus.js.views.kv(name, { bindOnly: true, allow_direct: true });
}
