import { AgentError } from '../errors.js';

const DISK_FAULTS: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO']);

/** An error that the cache's own disk is to blame for, as one that says so; any other as it is. */
export function blamingDisk(dir: string, error: unknown): unknown {
  const code = diskFaultOf(error);
  if (code === undefined) return error;
  const message = `The package cache ${dir} cannot be written: ${code}; free space, or see to the disk`;
  return new AgentError('INTERNAL', message, { cause: error, transient: true });
}

function diskFaultOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as NodeJS.ErrnoException;
  return DISK_FAULTS.has(code) ? code : diskFaultOf(error.cause);
}
