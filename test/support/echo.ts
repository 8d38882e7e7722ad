import { createSocket } from 'node:dgram';

/*
 * Run as a process inside a network namespace: prints `listening` and sends every datagram back to its sender, until
 * its standard input ends.
 *
 *   node echo.js <address> <port>
 */
const [address = '', port] = process.argv.slice(2);

// The address is numeric and needs no resolver.
const socket = createSocket({ type: 'udp4', lookup: (name, _options, done) => done(null, name, 4) });
socket.on('message', (datagram, from) => socket.send(datagram, from.port, from.address));
socket.bind(Number(port), address, () => process.stdout.write('listening\n'));
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
