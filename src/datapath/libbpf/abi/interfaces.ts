import koffi from 'koffi';
import { AgentError } from '../../../errors.js';
import { kernelError } from './errno.js';
import { lastErrno, libc } from './ffi.js';

/*
 * Network interfaces of the process's namespace. Not read from /sys/class/net, which shows the namespace in which it
 * was mounted.
 */

/** `struct if_nameindex { unsigned int if_index; char *if_name; }` on 64-bit platforms. */
const ENTRY_SIZE = 16n;
const NAME_OFFSET = 8n;

/** Interface name to index. */
export function interfaces(): ReadonlyMap<string, number> {
  const list = libc().if_nameindex();
  if (list === null) throw kernelError('Cannot list the network interfaces', lastErrno());
  try {
    const found = new Map<string, number>();
    for (let entry = list; ; entry += ENTRY_SIZE) {
      const index = koffi.decode.uint32(entry);
      if (index === 0) return found;
      found.set(koffi.decode.string(BigInt(koffi.decode.uint64(entry + NAME_OFFSET))), index);
    }
  } finally {
    libc().if_freenameindex(list);
  }
}

/** @throws AgentError INTERFACE_NOT_FOUND */
export function interfaceIndex(iface: string): number {
  const index = libc().if_nametoindex(iface);
  if (index === 0) throw interfaceNotFound(iface);
  return index;
}

export function interfaceNotFound(iface: string): AgentError {
  return new AgentError('INTERFACE_NOT_FOUND', `This host has no interface ${iface}`);
}
