import { AgentError } from '../errors.js';
import { RATIO_FLOOR, type UnpackLimits } from './limits.js';

/** What an archive says about one entry. None of it has been checked yet. */
export interface ArchiveEntry {
  readonly path: string;
  readonly type: 'file' | 'directory' | RefusedType;
  /** The lower twelve bits of st_mode, see inode(7). */
  readonly mode: number;
}

export type RefusedType =
  | 'symbolic link'
  | 'hard link'
  | 'character device'
  | 'block device'
  | 'FIFO'
  | 'socket'
  | 'sparse file or another special entry';

/** An archive, read in order: an entry, then its content piece by piece, then the next entry. */
export type ArchivePart = ArchiveEntry | Uint8Array;

/** Counts bytes that leave the decompressor. */
export type Meter = (bytes: number) => void;

/**
 * @param archiveSize in bytes
 * @returns a meter that throws AgentError ARTIFACT_TOO_LARGE when the archive unpacks to more than the limits allow
 */
export function createMeter(archiveSize: number, limits: UnpackLimits): Meter {
  let total = 0;
  return (bytes) => {
    total += bytes;
    if (total > limits.maxBytes) {
      throw new AgentError('ARTIFACT_TOO_LARGE', `it unpacks to more than ${limits.maxBytes} bytes`);
    }
    if (total > RATIO_FLOOR && total > archiveSize * limits.maxRatio) {
      throw new AgentError('ARTIFACT_TOO_LARGE', `it unpacks to more than ${limits.maxRatio} times its size`);
    }
  };
}

/** A fault in the archive's content. The caller adds the name of the archive. */
export function invalid(reason: string): AgentError {
  return new AgentError('ARTIFACT_INVALID', reason);
}
