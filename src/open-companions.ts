import { join } from 'node:path';
import { Companions } from './companions/companions.js';
import type { PackageFiles } from './companions/locate.js';
import { MemoryCompanions } from './companions/memory.js';
import type { Config } from './config.js';
import type { Logger } from './telemetry/log.js';

/** The companions of this host, those included that an earlier agent has left running. On an imitated kernel they are imitated, too. */
export async function openCompanions(
  { stateDir, companionLogDir: logDir }: Pick<Config, 'stateDir' | 'companionLogDir'>,
  kind: 'libbpf' | 'memory',
  packages: PackageFiles,
  log: Logger,
): Promise<Companions | MemoryCompanions> {
  if (kind === 'memory') return new MemoryCompanions();
  const companions = new Companions({
    dir: join(stateDir, 'companions'),
    packages,
    log,
    ...(logDir !== undefined && { logDir }),
  });
  await companions.open();
  return companions;
}
