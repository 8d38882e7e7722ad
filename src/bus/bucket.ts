import type { KV } from 'nats';
import type { Bus } from './connect.js';

/** Opens a key-value bucket that {@link file://./streams.ts} has checked. Sends no request to the server. */
export function openBucket(bus: Bus, name: string): Promise<KV> {
  return bus.js.views.kv(name, { bindOnly: true, allow_direct: true });
}
