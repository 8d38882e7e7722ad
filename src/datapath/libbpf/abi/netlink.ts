import { kernelError } from './errno.js';
import { Fd } from './fd.js';
import { lastErrno, libc } from './ffi.js';
import { NLATTR, NLMSGERR, NLMSGHDR } from './structs.js';

/*
 * Reads interfaces, qdiscs and filters by rtnetlink(7). libbpf cannot list them, and asks for all interfaces where it
 * needs one (bpf_xdp_query of libbpf 1.1).
 */

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_ROUTE = 0;
/** include/uapi/linux/netlink.h */
const [NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR] = [0x1, 0x300, 0x10];
const [NLMSG_ERROR, NLMSG_DONE] = [2, 3];
/** Without NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
const NLA_TYPE_MASK = 0x3fff;
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
  for (let tries = 1; ; tries += 1) {
    const { found, isInterrupted } = dump(type, request);
    // What was listed has changed in between, so something may be missing.
    if (!isInterrupted || tries === MOST_TRIES) return found;
  }
}

/** On a host where interfaces come and go all the time, the last answer has to do. */
const MOST_TRIES = 5;

function dump(type: number, request: Buffer): { readonly found: Buffer[]; readonly isInterrupted: boolean } {
  using socket = send(type, NLM_F_REQUEST | NLM_F_DUMP, request);
  const found: Buffer[] = [];
  let isInterrupted = false;
  for (;;) {
    for (const { type: kind, flags, body } of receive(socket)) {
      isInterrupted ||= (flags & NLM_F_DUMP_INTR) !== 0;
      if (kind === NLMSG_DONE) return { found, isInterrupted };
      if (kind === NLMSG_ERROR) throw refused(NLMSGERR.read(body, 'error'));
      found.push(body);
    }
  }
}

/**
 * Requests one thing.
 *
 * @returns its message without the header, or a negative errno
 * @throws AgentError KERNEL if it cannot be requested
 */
export function ask(type: number, request: Buffer): Buffer | number {
  using socket = send(type, NLM_F_REQUEST, request);
  for (;;) {
    for (const { type: kind, body } of receive(socket)) {
      return kind === NLMSG_ERROR ? NLMSGERR.read(body, 'error') : body;
    }
  }
}

/** @returns the socket from which the answer comes */
function send(type: number, flags: number, request: Buffer): Fd {
  const number = libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (number < 0) throw kernelError('Cannot open a netlink socket', lastErrno());
  const socket = new Fd(number);
  const header = NLMSGHDR.make({ nlmsg_len: NLMSGHDR.size + request.length, nlmsg_type: type, nlmsg_flags: flags });
  const message = Buffer.concat([header, request]);
  if (libc().send(number, message, message.length, 0) >= 0) return socket;
  const errno = lastErrno();
  socket[Symbol.dispose]();
  throw refused(errno);
}

function receive(socket: Fd): Generator<{ type: number; flags: number; body: Buffer }> {
  const part = Buffer.allocUnsafeSlow(BUFFER);
  const length = libc().recv(socket.number, part, part.length, 0);
  if (length < 0) throw refused(lastErrno());
  return messagesOf(part.subarray(0, length));
}

function refused(errno: number): Error {
  return kernelError('The kernel refused a netlink request', errno);
}

function* messagesOf(buffer: Buffer): Generator<{ type: number; flags: number; body: Buffer }> {
  for (let at = 0, length: number; at + NLMSGHDR.size <= buffer.length; at += aligned(length)) {
    length = NLMSGHDR.read(buffer, 'nlmsg_len', at);
    const [type, flags] = [NLMSGHDR.read(buffer, 'nlmsg_type', at), NLMSGHDR.read(buffer, 'nlmsg_flags', at)];
    yield { type, flags, body: buffer.subarray(at + NLMSGHDR.size, at + length) };
  }
}

/** The value of an attribute (`struct nlattr`); undefined if it is missing. */
export function attribute(attributes: Buffer, type: number): Buffer | undefined {
  for (let at = 0, length: number; at + NLATTR.size <= attributes.length; at += aligned(length)) {
    length = NLATTR.read(attributes, 'nla_len', at);
    if ((NLATTR.read(attributes, 'nla_type', at) & NLA_TYPE_MASK) === type)
      return attributes.subarray(at + NLATTR.size, at + length);
  }
  return undefined;
}

/**
 * Rounds up to NLMSG_ALIGNTO, which equals NLA_ALIGNTO. At least 4, since with a length of 0 the loop would never end.
 */
function aligned(length: number): number {
  return Math.max(4, (length + 3) & ~3);
}
