import { createSocket } from 'node:dgram';

/*
 * Run as a process inside a network namespace: prints `sending` and sends numbered UDP packets at a steady rate until
 * it is stopped. Then it prints how many the kernel accepted.
 *
 *   node sender.js <address> <port> <packets per second> [<count>]
 */
const [address = '', port, rate, count] = process.argv.slice(2);
const destination = Number(port);
const limit = count === undefined ? Number.POSITIVE_INFINITY : Number(count);
const perMillisecond = Number(rate) / 1000;

// Not connected: on a connected socket, "port unreachable" makes a later send fail. The address is numeric and needs no
// resolver.
const socket = createSocket({ type: 'udp4', lookup: (name, _options, done) => done(null, name, 4) });
socket.bind(() => {
  const began = performance.now();
  let issued = 0;
  let sent = 0;
  let stopping = false;
  const payload = Buffer.alloc(18);

  const finish = () => {
    process.stdout.write(`${JSON.stringify({ sent })}\n`, () => process.exit(0));
  };
  const tick = () => {
    const due = Math.min(limit, Math.floor((performance.now() - began) * perMillisecond));
    // Small bursts: a veth's ring holds 256 packets, and more are dropped before any program sees them.
    for (let burst = 0; issued < due && burst < 64; burst++, issued++) {
      payload.writeBigUInt64BE(BigInt(issued));
      socket.send(payload, destination, address, (error) => {
        if (error === null) sent += 1;
      });
    }
    if (stopping || issued >= limit) setTimeout(finish, 20);
    else setTimeout(tick, 1);
  };
  process.stdin.on('data', () => {
    stopping = true;
  });
  process.stdin.on('end', () => process.exit(1));
  process.stdout.write('sending\n');
  tick();
});
