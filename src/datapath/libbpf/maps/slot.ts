import { PROG_ARRAY } from '../../../domain/map-types.js';
import { check, EINVAL, ENOENT, kernelError } from '../abi/errno.js';
import { Fd, openPin, tryOpenPin } from '../abi/fd.js';
import { inBackground, libbpf } from '../abi/ffi.js';
import { mapInfo } from '../abi/info.js';

/** The only key of a slot. */
const KEY = Buffer.alloc(4);

/** Bytes of a key, bytes of a value, entries. */
const SLOT_SIZES = [4, 4, 1] as const;

/**
 * The slot that is pinned at a path; undefined if there is none. Maps of another type are rejected, since for them the
 * kernel might read and write more bytes than our buffers have.
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

/** @param failed what failed, as the beginning of a sentence. @throws AgentError KERNEL */
export function putIntoSlot(slotFd: number, programFd: number, failed: string): void {
  const value = Buffer.alloc(4);
  value.writeInt32LE(programFd);
  const result = libbpf().bpf_map_update_elem(slotFd, KEY, value, 0);
  if (result === -EINVAL) {
    // bpf_prog_map_compatible in kernel/bpf/core.c. Which of them differs is not to be had from the kernel.
    const why = 'all programs of a chain must agree in type, expected attach type and xdp.frags';
    const how =
      'a program in a section xdp.frags needs a root of that kind (xdp_root_artifact) and others like it, or a hook without a chain (chaining: false); otherwise build it with SEC("xdp")';
    throw kernelError(`${failed}: ${why}; ${how}`, result);
  }
  check(result, failed);
}

/** Makes a map that can be a slot. @throws AgentError KERNEL */
export function makeSlot(name: string, failed: string): Fd {
  return new Fd(check(libbpf().bpf_map_create(PROG_ARRAY, name, ...SLOT_SIZES, null), failed));
}

/** Whether a tail call can lead from one of two programs to the other. @throws AgentError KERNEL */
export function areCompatible(one: number, other: number): boolean {
  // The first program in a PROG_ARRAY determines what all later ones must be like (bpf_prog_map_compatible in
  // kernel/bpf/core.c).
  using slot = makeSlot('compatible', 'Cannot make a slot to compare programs');
  putIntoSlot(slot.number, one, 'Cannot put a program into a slot');
  const value = Buffer.alloc(4);
  value.writeInt32LE(other);
  const result = libbpf().bpf_map_update_elem(slot.number, KEY, value, 0);
  if (result !== -EINVAL) check(result, 'Cannot compare two programs');
  return result !== -EINVAL;
}

/** @param failed as for {@link putIntoSlot}. @throws AgentError KERNEL */
export function emptySlot(slotFd: number, failed: string): void {
  const result = libbpf().bpf_map_delete_elem(slotFd, KEY);
  if (result !== -ENOENT) check(result, failed);
}

/**
 * The same without holding up the event loop: the kernel waits until no program runs that has read the slot
 * (maybe_wait_bpf_programs in kernel/bpf/syscall.c), usually for 10 ms.
 */
export async function emptySlotAside(slotFd: number, failed: string): Promise<void> {
  const result = await inBackground(libbpf().bpf_map_delete_elem, slotFd, KEY);
  if (result !== -ENOENT) check(result, failed);
}

/** Id of the program in a slot; null if it is empty. */
export function programInSlot(slotFd: number): number | null {
  const value = Buffer.alloc(4);
  const result = libbpf().bpf_map_lookup_elem(slotFd, KEY, value);
  if (result === -ENOENT) return null;
  check(result, 'Cannot read a slot');
  return value.readUInt32LE();
}
