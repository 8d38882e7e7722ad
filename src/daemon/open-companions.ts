import { join } from 'node:path';
import { Companions } from '../companions/companions.js';
import type { PackageFiles } from '../companions/locate.js';
import { MemoryCompanions } from '../companions/memory.js';
import type { Config } from '../config.js';
import type { Datapath } from '../datapath/datapath.js';
import { MemoryDatapath } from '../datapath/memory/datapath.js';
import type { Logger } from '../telemetry/log.js';

type CompanionConfig = Pick<Config, 'stateDir' | 'companionLogDir' | 'companionSettleTime' | 'companionReadyTime'>;

/**
 * The companions of this host, including those that an earlier agent has left running. If the kernel is simulated, they
 * are simulated too.
 */
export async function openCompanions(
  { stateDir, companionLogDir: logDir, companionSettleTime, companionReadyTime }: CompanionConfig,
  datapath: Datapath,
  packages: PackageFiles,
  log: Logger,
): Promise<Companions | MemoryCompanions> {
  if (datapath instanceof MemoryDatapath) {
    return new MemoryCompanions({ onLoading: (dir, hook) => datapath.imitateLoading(dir, hook) });
  }
  const companions = new Companions({
    dir: join(stateDir, 'companions'),
    packages,
    log,
    times: { settleMs: companionSettleTime, readyMs: companionReadyTime },
    ...(logDir !== undefined && { logDir }),
  });
  await companions.open();
  return companions;
}
