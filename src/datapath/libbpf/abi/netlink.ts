import { kernelError } from './errno.js';
import { Fd } from './fd.js';
import { lastErrno, libc } from './ffi.js';
import { NLATTR, NLMSGERR, NLMSGHDR } from './structs.js';

/*
 * Lists qdiscs and filters by rtnetlink(7), which libbpf cannot do.
 */

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_ROUTE = 0;
/** NLM_F_REQUEST and NLM_F_DUMP of include/uapi/linux/netlink.h. */
const FLAGS = 0x1 | 0x300;
const [NLMSG_ERROR, NLMSG_DONE] = [2, 3];
/** The kernel fills at most 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c). */
const BUFFER = 64 * 1024;

/**
 * Requests a list.
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
  const header = NLMSGHDR.make({ nlmsg_len: NLMSGHDR.size + request.length, nlmsg_type: type, nlmsg_flags: FLAGS });
  const message = Buffer.concat([header, request]);
  if (libc().send(socket.number, message, message.length, 0) < 0) throw refused(lastErrno());
  const found: Buffer[] = [];
  for (;;) {
    const part = Buffer.alloc(BUFFER);
    const length = libc().recv(socket.number, part, part.length, 0);
    if (length < 0) throw refused(lastErrno());
    for (const { type: kind, body } of messagesOf(part.subarray(0, length))) {
      if (kind === NLMSG_DONE) return found;
      if (kind === NLMSG_ERROR) throw refused(-NLMSGERR.read(body, 'error'));
      found.push(body);
    }
  }
}

function refused(errno: number): Error {
  return kernelError('The kernel refused a netlink list request', errno);
}

function* messagesOf(buffer: Buffer): Generator<{ type: number; body: Buffer }> {
  for (let at = 0, length: number; at + NLMSGHDR.size <= buffer.length; at += aligned(length)) {
    length = NLMSGHDR.read(buffer, 'nlmsg_len', at);
    yield { type: NLMSGHDR.read(buffer, 'nlmsg_type', at), body: buffer.subarray(at + NLMSGHDR.size, at + length) };
  }
}

/** The value of an attribute (`struct nlattr`); undefined if it is missing. */
export function attribute(attributes: Buffer, type: number): Buffer | undefined {
  for (let at = 0, length: number; at + NLATTR.size <= attributes.length; at += aligned(length)) {
    length = NLATTR.read(attributes, 'nla_len', at);
    if (NLATTR.read(attributes, 'nla_type', at) === type) return attributes.subarray(at + NLATTR.size, at + length);
  }
  return undefined;
}

/**
 * Rounds up to NLMSG_ALIGNTO, which equals NLA_ALIGNTO. At least 4, since with a length of 0 the loop would never end.
 */
function aligned(length: number): number {
  return Math.max(4, (length + 3) & ~3);
}
