import { join } from 'node:path';
import type { Bus } from '../bus/connect.js';
import { openStoredObject } from '../bus/objects.js';
import type { Config } from '../config.js';
import { AgentError } from '../errors.js';
import { PackageCache } from '../packages/cache.js';
import { readTrustedKeys } from '../packages/keys.js';
import { distributionCodename } from '../packages/platform.js';
import type { Fetched } from '../packages/transport.js';

/**
 * The package cache, from the configuration.
 *
 * @param bus for its object stores, once it is connected
 * @param onFetched called for every artifact that has arrived, for metrics
 * @throws AgentError CONFIG_INVALID for a trusted key that cannot be read
 */
export async function openPackages(
  config: Config,
  bus: () => Bus | undefined,
  onFetched?: (fetched: Fetched) => void,
): Promise<PackageCache> {
  const cache = new PackageCache({
    dir: join(config.stateDir, 'packages'),
    repoUrl: config.repoUrl,
    platform: config.platform ?? (await distributionCodename()),
    caFile: config.repoTlsCa,
    signatures: { policy: config.signaturePolicy, keys: await readTrustedKeys(config.trustedKeys ?? []) },
    objects: { open: async (...object) => openStoredObject(connected(bus()), ...object) },
    onFetched,
  });
  await cache.open();
  return cache;
}

function connected(bus: Bus | undefined): Bus {
  if (bus !== undefined) return bus;
  const message = 'Cannot read an object store: NATS is not connected yet';
  throw new AgentError('ARTIFACT_UNREACHABLE', message, { transient: true });
}
