import { createSocket } from 'node:dgram';
import koffi from 'koffi';

/*
 * Run as a process inside a network namespace: receives the UDP datagrams of one port until it is stopped. Then it
 * prints their numbers by the type-of-service byte of the IP header (RFC 791), which the sockets of Node.js do not
 * report.
 *
 *   node listener.js <address> <port>
 */
const [address = '', port = ''] = process.argv.slice(2);

const libc = koffi.load('libc.so.6');
const openSocket = libc.func('int socket(int domain, int type, int protocol)');
const receive = libc.func('long recv(int socket, _Out_ uint8_t *buffer, size_t length, int flags)');

const AF_INET = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const IPPROTO_UDP = 17;

/** Longer than any IPv4 header with a UDP header; the rest of a datagram does not matter. */
const packet = Buffer.alloc(128);
const byTos: Record<number, number> = {};

// A raw socket gets a copy of each packet, IP header included (raw(7)).
const copies: number = openSocket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_UDP);
if (copies < 0) throw new Error('A raw socket could not be opened; this requires CAP_NET_RAW');

function takeWhatCame(): void {
  while (receive(copies, packet, packet.length, 0) > 0) {
    const headerLength = packet.readUInt8(0) % 16;
    const destinationPort = packet.readUInt16BE(headerLength * 4 + 2);
    if (destinationPort !== Number(port)) continue;
    const tos = packet.readUInt8(1);
    byTos[tos] = (byTos[tos] ?? 0) + 1;
  }
}

// The socket to which the datagrams are sent: without it, each would be answered with "port unreachable".
const socket = createSocket('udp4');
socket.on('message', takeWhatCame);
socket.bind(Number(port), address, () => process.stdout.write('listening\n'));

process.stdin.on('data', () => {
  takeWhatCame();
  process.stdout.write(`${JSON.stringify(byTos)}\n`, () => process.exit(0));
});
process.stdin.on('end', () => process.exit(1));
