import { AckPolicy, DeliverPolicy, nanos, nuid, ReplayPolicy } from 'nats';
import { AgentError } from '../errors.js';
import { STREAMS, type Subjects } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import { type Backlog, type Delivery, type DeliveryHead, headOf } from './delivery.js';
import { newestOn } from './direct-get.js';
import { originOf, toDelivery } from './message.js';

/** Messages that are on their way at a time: bodies may be as large as the server takes. */
const BATCH = { heads: 500, bodies: 50 } as const;
const BATCH_EXPIRES_MS = 10_000;
/** The server removes a reader that was left behind. */
const READER_INACTIVE_MS = 30_000;

/** Tells whether a deploy may stand at the head of a backlog. */
export type Usable = (deploy: Delivery) => boolean;

/**
 * Finds what is on the stream for one host. With nothing known of the host, from its last usable deploy on, in a time that does not
 * depend on how much lies before that deploy; else everything past `after`, since each of those commands still awaits its answer.
 *
 * @param after sequence of the last command answered; null when nothing is known
 * @param usable asked for the last deploy when nothing is known; when it says no, earlier ones are looked at
 * @returns `upTo`: how far it was read; what comes after it is to be consumed
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
  // Not farther than what was given, whatever was announced: the rest is consumed.
  return { deliveries, upTo: deliveries.at(-1)?.seq ?? start - 1 };
}

/**
 * Hands over the commands of a backlog with their bodies, in stream order, none longer in memory than it is looked at.
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
  /** Nothing newer is read. */
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
 * The messages on a subject from sequence `start` on, through a consumer that lives only as long as this takes. What is announced is an
 * estimate: nats-server 2.9 has been seen to count one more than there are.
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
        // nats.js tells the time as a rounded number only.
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
  return new AgentError('BROKER_UNREACHABLE', 'The connection to NATS did not hold while the backlog was read', {
    transient: true,
  });
}
