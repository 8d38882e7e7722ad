import { createSocket } from 'node:dgram';

/*
 * A process of its own, run inside a network namespace: says `sending`, sends numbered UDP packets at a steady pace until it is told
 * to stop, and then says how many the kernel took.
 *
 *   node sender.js <address> <port> <packets per second> [<count>]
 */
const [address = '', port, rate, count] = process.argv.slice(2);
const destination = Number(port);
const limit = count === undefined ? Number.POSITIVE_INFINITY : Number(count);
const perMillisecond = Number(rate) / 1000;

// Not connected: a connected socket reports "port unreachable" by failing a later send. The address needs no resolver.
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
    // Small bursts: a veth's ring holds 256 packets, and what does not fit is dropped before any program sees it.
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
