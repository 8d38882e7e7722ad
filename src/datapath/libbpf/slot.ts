import { PROG_ARRAY } from '../../domain/mapvalue.js';
import { check, EINVAL, ENOENT, kernelError } from './errno.js';
import { type Fd, openPin, tryOpenPin } from './fd.js';
import { libbpf } from './ffi.js';
import { mapInfo } from './info.js';

/** The only key of a slot. */
const KEY = Buffer.alloc(4);

/**
 * The slot that is pinned at a path; undefined if there is none. The kernel would read and write as many bytes as the entries of a map of
 * another kind have, whatever room there is for them.
 */
export function tryOpenSlot(slotPin: string): Fd | undefined {
  const found = tryOpenPin('map', slotPin);
  if (found === undefined || mapInfo(found.number).type === PROG_ARRAY) return found;
  found[Symbol.dispose]();
  return undefined;
}

/** Writes key 0 of a slot, or empties it; see `Datapath.setSlot`. */
export function setSlot(slotPin: string, programPin: string | null): void {
  using slot = tryOpenSlot(slotPin);
  if (slot === undefined) throw kernelError(`No slot is pinned at ${slotPin}`, ENOENT);
  if (programPin === null) {
    emptySlot(slot.number, `Cannot empty the slot ${slotPin}`);
    return;
  }
  using program = openPin('prog', programPin);
  putIntoSlot(slot.number, program.number, `Cannot put ${programPin} into ${slotPin}`);
}

/** @param failed what did not work then, as the beginning of a sentence. @throws AgentError KERNEL */
export function putIntoSlot(slotFd: number, programFd: number, failed: string): void {
  const value = Buffer.alloc(4);
  value.writeInt32LE(programFd);
  const result = libbpf().bpf_map_update_elem(slotFd, KEY, value, 0);
  if (result === -EINVAL) {
    const why = 'its type, expected attach type or xdp.frags is not that of the program that owns the slot';
    throw kernelError(`${failed}: ${why}`, result);
  }
  check(result, failed);
}

/** @param failed as of {@link putIntoSlot}. @throws AgentError KERNEL */
export function emptySlot(slotFd: number, failed: string): void {
  const result = libbpf().bpf_map_delete_elem(slotFd, KEY);
  if (result !== -ENOENT) check(result, failed);
}

/** Id of the program in a slot; null when it is empty. */
export function programInSlot(slotFd: number): number | null {
  const value = Buffer.alloc(4);
  const result = libbpf().bpf_map_lookup_elem(slotFd, KEY, value);
  if (result === -ENOENT) return null;
  check(result, 'Cannot read a slot');
  return value.readUInt32LE();
}
