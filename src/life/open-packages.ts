import { join } from 'node:path';
import type { Config } from '../config.js';
import { AgentError } from '../errors.js';
import { PackageCache } from '../packages/cache.js';
import { readTrustedKeys } from '../packages/keys.js';
import type { ObjectStores } from '../packages/object-store.js';
import { distributionCodename } from '../packages/platform.js';
import type { Fetched } from '../packages/transport.js';

/** Reads from the bus's object stores; of the wiring, `BusLink`. */
export interface ObjectSource {
  openObject: ObjectStores['open'];
}

/**
 * The package cache, as it is configured.
 *
 * @param source the bus, once it is being joined
 * @param onFetched told of every artifact that has arrived, for metrics
 * @throws AgentError CONFIG_INVALID for a trusted key that cannot be read
 */
export async function openPackages(
  config: Config,
  source: () => ObjectSource | undefined,
  onFetched?: (fetched: Fetched) => void,
): Promise<PackageCache> {
  const cache = new PackageCache({
    dir: join(config.stateDir, 'packages'),
    repoUrl: config.repoUrl,
    platform: config.platform ?? (await distributionCodename()),
    caFile: config.repoTlsCa,
    signatures: { policy: config.signaturePolicy, keys: await readTrustedKeys(config.trustedKeys ?? []) },
    objects: { open: async (...object) => bus(source()).openObject(...object) },
    onFetched,
  });
  await cache.open();
  return cache;
}

function bus(source: ObjectSource | undefined): ObjectSource {
  if (source !== undefined) return source;
  throw new AgentError('ARTIFACT_UNREACHABLE', 'No object store can be read: the bus is not joined yet', {
    transient: true,
  });
}
