import { createSocket } from 'node:dgram';

/*
 * A process of its own, run inside a network namespace: says `listening`, and sends every datagram back to where it came from, until its
 * standard input ends.
 *
 *   node echo.js <address> <port>
 */
const [address = '', port] = process.argv.slice(2);

// The address needs no resolver.
const socket = createSocket({ type: 'udp4', lookup: (name, _options, done) => done(null, name, 4) });
socket.on('message', (datagram, from) => socket.send(datagram, from.port, from.address));
socket.bind(Number(port), address, () => process.stdout.write('listening\n'));
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
