import { AckPolicy, type ConsumerConfig, type ConsumerInfo, DeliverPolicy, nanos, ReplayPolicy } from 'nats';
import { AgentError } from '../errors.js';
import { STREAMS } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import type { BusLogger } from './logger.js';
import { inWords, isDenied, isNotFound } from './nats-errors.js';

/** The consumer is on the servers of its stream. */
const INHERITED = 0;

export interface ConsumerSpec {
  /** Durable name: the host's token. */
  readonly name: string;
  /** The host's commands. */
  readonly filter: string;
  readonly ackWaitMs: number;
  /** Sequence after which a new consumer begins. */
  readonly after: number;
  /** Whether to create the consumer again if the present one would deliver something at or below `after`. */
  readonly skip: boolean;
  /** Newest sequence of the stream. */
  readonly lastSeq: number;
  /** On how many servers the stream is. */
  readonly replicas: number;
}

/**
 * Ensures that the host's durable consumer exists and has no unacknowledged message, and returns its state. Call it
 * only while no message is being handled.
 *
 * @throws AgentError STREAM_INCOMPATIBLE when the present one has other settings, or is absent and may not be created
 */
export async function ensureConsumer(bus: Bus, spec: ConsumerSpec, logger: BusLogger): Promise<ConsumerInfo> {
  const present = await consumerInfo(bus, spec.name);
  if (present === undefined) return create(bus, spec, logger);
  requireFit(present.config, spec);
  const reason = reasonToRenew(present, spec);
  if (reason === undefined) return replicated(bus, present, spec, logger);
  try {
    await bus.connection.guard(bus.jsm.consumers.delete(STREAMS.commands, spec.name));
  } catch (error) {
    if (!isDenied(error)) throw error;
    logger.warn(
      { consumer: spec.name, reason },
      'not permitted to create the consumer again; continuing with the present one',
    );
    return present;
  }
  logger.info({ consumer: spec.name, reason }, 'creating the consumer again');
  const floor = present.ack_floor.stream_seq;
  return create(bus, { ...spec, after: floor > spec.lastSeq ? spec.after : Math.max(spec.after, floor) }, logger);
}

export async function consumerInfo(bus: Bus, name: string): Promise<ConsumerInfo | undefined> {
  try {
    return await bus.connection.guard(bus.jsm.consumers.info(STREAMS.commands, name));
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/**
 * Brings a consumer that is on fewer servers than its stream to all of them. Otherwise the host would be deaf while the
 * consumer's one server is away, although the stream goes on.
 */
async function replicated(
  bus: Bus,
  present: ConsumerInfo,
  { name, replicas }: ConsumerSpec,
  logger: BusLogger,
): Promise<ConsumerInfo> {
  const { num_replicas: own = INHERITED } = present.config;
  if (own === INHERITED || own >= replicas) return present;
  try {
    const update = bus.jsm.consumers.update(STREAMS.commands, name, { ...present.config, num_replicas: INHERITED });
    const info = await bus.connection.guard(update);
    logger.info({ consumer: name, replicas }, 'the consumer now has the replicas of its stream');
    return info;
  } catch (error) {
    const err = inWords(error, { stream: STREAMS.commands });
    logger.warn({ consumer: name, replicas: own, err }, 'could not give the consumer the replicas of its stream');
    return present;
  }
}

function reasonToRenew(present: ConsumerInfo, { after, skip, lastSeq }: ConsumerSpec): string | undefined {
  // After a power failure the stream may have lost more than the consumer. The consumer would then wait for sequences
  // that are long past.
  if (present.delivered.stream_seq > lastSeq) return 'it is ahead of its stream';
  // The message was delivered on a connection that broke. It would come again, but only after the ack wait.
  if (present.num_ack_pending > 0) return 'one of its messages was lost in transit';
  if (skip && present.num_pending > 0 && present.ack_floor.stream_seq < after)
    return 'it is behind the last handled command';
  return undefined;
}

async function create(
  bus: Bus,
  { name, filter, ackWaitMs, after }: ConsumerSpec,
  logger: BusLogger,
): Promise<ConsumerInfo> {
  try {
    const info = await bus.connection.guard(
      bus.jsm.consumers.add(STREAMS.commands, {
        durable_name: name,
        filter_subject: filter,
        ack_policy: AckPolicy.Explicit,
        // With more than one unacknowledged message, a redelivered message would come after its successor.
        max_ack_pending: 1,
        ack_wait: nanos(ackWaitMs),
        max_deliver: -1,
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: after + 1,
        replay_policy: ReplayPolicy.Instant,
        // As many as its stream has, also when the stream gets more or fewer later.
        num_replicas: INHERITED,
      }),
    );
    logger.info({ consumer: name, after }, 'created the consumer');
    return info;
  } catch (error) {
    if (!isDenied(error)) throw error;
    throw new AgentError(
      'STREAM_INCOMPATIBLE',
      `Stream ${STREAMS.commands} has no consumer ${name} and this account may not create it; enrol the host with the controller`,
      { cause: error },
    );
  }
}

function requireFit(config: ConsumerConfig, { name, filter }: ConsumerSpec): void {
  const filters = config.filter_subjects ?? [config.filter_subject ?? '>'];
  const complaints = [
    complaint('filter_subject', filters.join(', '), filter),
    complaint('ack_policy', config.ack_policy, AckPolicy.Explicit),
    complaint('max_ack_pending', config.max_ack_pending ?? 0, 1),
    complaint('max_deliver', config.max_deliver ?? -1, -1),
    complaint('deliver_subject', config.deliver_subject ?? '', ''),
    complaint('headers_only', config.headers_only ?? false, false),
  ].filter((text) => text !== undefined);
  if (complaints.length === 0) return;
  throw new AgentError(
    'STREAM_INCOMPATIBLE',
    `Consumer ${name} of stream ${STREAMS.commands} does not fit: ${complaints.join('; ')}`,
  );
}

function complaint<T>(setting: keyof ConsumerConfig, found: T, wanted: T): string | undefined {
  return found === wanted ? undefined : `${setting} is ${JSON.stringify(found)}, wanted ${JSON.stringify(wanted)}`;
}
