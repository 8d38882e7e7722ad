import { AckPolicy, DeliverPolicy, nanos, nuid, ReplayPolicy } from 'nats';
import { AgentError } from '../errors.js';
import { STREAMS, type Subjects } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import { type Backlog, type Delivery, type DeliveryHead, headOf } from './delivery.js';
import { newestOn } from './direct-get.js';
import { originOf, toDelivery } from './message.js';

/** How many messages are in transit at a time. A body may be as large as the server allows. */
const BATCH = { heads: 500, bodies: 50 } as const;
const BATCH_EXPIRES_MS = 10_000;
/** The server removes an abandoned reader after this time. */
const READER_INACTIVE_MS = 30_000;

/** Whether a deploy may be the first command of a backlog. */
export type Usable = (deploy: Delivery) => boolean;

/**
 * Reads the backlog of one host from the stream. If `after` is null, it begins at the last usable deploy; the time for
 * this does not depend on how much lies before that deploy. Otherwise it is everything past `after`, since each of
 * those commands still awaits its answer.
 *
 * @param after sequence of the last command answered; null when nothing is known
 * @param usable asked about the last deploy when `after` is null; if it returns false, earlier deploys are checked
 * @returns `upTo`: how far the stream was read; consume what comes after it
 * @throws AgentError BROKER_UNREACHABLE, transient, when the connection breaks meanwhile; errors of nats.js
 */
export async function readBacklog(
  bus: Bus,
  { subjects, host, after, usable }: { subjects: Subjects; host: string; after: number | null; usable: Usable },
): Promise<Backlog> {
  const stream = await bus.connection.guard(bus.jsm.streams.info(STREAMS.commands));
  const { created } = stream;
  const deploys = subjects.command('deploy');
  const newest = after === null ? await newestOn(bus, deploys, created) : undefined;
  const source: Source = { bus, host, created, upTo: Math.max(stream.state.last_seq, newest?.seq ?? 0) };
  let start = (after ?? 0) + 1;
  if (newest !== undefined) {
    start = usable(newest) ? newest.seq : ((await lastUsable(source, deploys, usable)) ?? start);
  }
  const deliveries: DeliveryHead[] = [];
  for await (const delivery of read(source, subjects.commandFilter, start, 'heads')) deliveries.push(headOf(delivery));
  // Only as far as messages were delivered, whatever was announced. The rest is consumed.
  return { deliveries, upTo: deliveries.at(-1)?.seq ?? start - 1 };
}

/**
 * Passes the commands of a backlog with their bodies to `take`, in stream order. Only one body is kept in memory at a
 * time.
 *
 * @param range sequences of the first and the last
 * @throws as {@link readBacklog}
 */
export async function readBodies(
  bus: Bus,
  { subjects, host, range: [from, upTo] }: { subjects: Subjects; host: string; range: readonly [number, number] },
  take: (delivery: Delivery) => void,
): Promise<void> {
  const { created } = await bus.connection.guard(bus.jsm.streams.info(STREAMS.commands));
  let reached = 0;
  for await (const delivery of read({ bus, host, created, upTo }, subjects.commandFilter, from, 'bodies')) {
    take(delivery);
    reached = delivery.seq;
  }
  if (reached !== upTo) throw gap();
}

interface Source {
  readonly bus: Bus;
  readonly host: string;
  readonly created: string;
  /** Newer messages are not read. */
  readonly upTo: number;
}

async function lastUsable(source: Source, subject: string, usable: Usable): Promise<number | undefined> {
  let last: number | undefined;
  for await (const deploy of read(source, subject, 1, 'bodies')) {
    if (usable(deploy)) last = deploy.seq;
  }
  return last;
}

/**
 * The messages on a subject from sequence `start` on, read through a temporary consumer. The announced number is an
 * estimate: nats-server 2.9 has been seen to count one message too many.
 */
async function* read(
  { bus, host, created, upTo }: Source,
  filter: string,
  start: number,
  what: keyof typeof BATCH,
): AsyncGenerator<Delivery> {
  const { connection, js, jsm } = bus;
  const { session } = connection;
  if (start > upTo) return;
  const { name, num_pending: waiting } = await connection.guard(
    jsm.consumers.add(STREAMS.commands, {
      name: `${host}-backlog-${nuid.next()}`,
      filter_subject: filter,
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: start,
      replay_policy: ReplayPolicy.Instant,
      headers_only: what === 'heads',
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: nanos(READER_INACTIVE_MS),
    }),
  );
  try {
    const consumer = await connection.guard(js.consumers.get(STREAMS.commands, name));
    let received = 0;
    while (received < waiting) {
      const wanted = Math.min(BATCH[what], waiting - received);
      const batch = await consumer.fetch({ max_messages: wanted, expires: BATCH_EXPIRES_MS });
      const end = received + wanted;
      for await (const message of batch) {
        received += 1;
        if (message.info.deliverySequence !== received) throw gap();
        if (message.seq > upTo) return;
        // nats.js returns the time only as a rounded number.
        const origin = originOf((message as { readonly reply?: string }).reply);
        if (origin === undefined) throw gap();
        yield toDelivery(message, origin, created);
        if (message.seq === upTo) return;
      }
      if (session.aborted) throw gap();
      if (received < end) return;
    }
  } finally {
    await jsm.consumers.delete(STREAMS.commands, name).catch(() => {});
  }
}

function gap(): AgentError {
  return new AgentError('BROKER_UNREACHABLE', 'The connection to NATS broke while the backlog was read', {
    transient: true,
  });
}
