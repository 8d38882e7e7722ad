import { kernelError } from './errno.js';
import { Fd } from './fd.js';
import { lastErrno, libc } from './ffi.js';

/*
 * What rtnetlink(7) lists and libbpf does not: qdiscs and filters.
 */

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_ROUTE = 0;
/** NLM_F_REQUEST and NLM_F_DUMP of include/uapi/linux/netlink.h. */
const FLAGS = 0x1 | 0x300;
const [NLMSG_ERROR, NLMSG_DONE] = [2, 3];
/** Of `struct nlmsghdr`. */
const HEADER = 16;
/** The kernel fills at most 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c). */
const BUFFER = 64 * 1024;

/**
 * Asks for a list.
 *
 * @param type `RTM_GET…`
 * @param request what follows the header
 * @returns the messages without their headers
 * @throws AgentError KERNEL
 */
export function list(type: number, request: Buffer): Buffer[] {
  const number = libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (number < 0) throw kernelError('Cannot open a netlink socket', lastErrno());
  using socket = new Fd(number);
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(HEADER + request.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(FLAGS, 6);
  const message = Buffer.concat([header, request]);
  if (libc().send(socket.number, message, message.length, 0) < 0) throw refused(lastErrno());
  const found: Buffer[] = [];
  for (;;) {
    const part = Buffer.alloc(BUFFER);
    const length = libc().recv(socket.number, part, part.length, 0);
    if (length < 0) throw refused(lastErrno());
    for (const { type: kind, body } of messagesOf(part.subarray(0, length))) {
      if (kind === NLMSG_DONE) return found;
      if (kind === NLMSG_ERROR) throw refused(-body.readInt32LE());
      found.push(body);
    }
  }
}

function refused(errno: number): Error {
  return kernelError('The kernel does not list what is asked for by netlink', errno);
}

function* messagesOf(buffer: Buffer): Generator<{ type: number; body: Buffer }> {
  for (let at = 0; at + HEADER <= buffer.length; at += aligned(buffer.readUInt32LE(at))) {
    const end = at + buffer.readUInt32LE(at);
    yield { type: buffer.readUInt16LE(at + 4), body: buffer.subarray(at + HEADER, end) };
  }
}

/** The value of an attribute (`struct nlattr`); undefined if it is not there. */
export function attribute(attributes: Buffer, type: number): Buffer | undefined {
  for (let at = 0; at + 4 <= attributes.length; at += aligned(attributes.readUInt16LE(at))) {
    const end = at + attributes.readUInt16LE(at);
    if (attributes.readUInt16LE(at + 2) === type) return attributes.subarray(at + 4, end);
  }
  return undefined;
}

/** To NLMSG_ALIGNTO, which is NLA_ALIGNTO too. What is empty would never end. */
function aligned(length: number): number {
  return Math.max(4, (length + 3) & ~3);
}
