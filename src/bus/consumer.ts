import { AckPolicy, type ConsumerConfig, type ConsumerInfo, DeliverPolicy, nanos, ReplayPolicy } from 'nats';
import { AgentError } from '../errors.js';
import { STREAMS } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import type { Logger } from './logger.js';
import { isDenied, isNotFound } from './nats-errors.js';

export interface ConsumerSpec {
  /** Durable name: the host's token. */
  readonly name: string;
  /** The host's commands. */
  readonly filter: string;
  readonly ackWaitMs: number;
  /** Sequence after which a consumer that is created begins. */
  readonly after: number;
  /** Whether a present one that would deliver something at or below `after` is made anew. */
  readonly skip: boolean;
  /** Newest sequence of the stream. */
  readonly lastSeq: number;
}

/**
 * Makes sure that the host's durable consumer is there and has nothing on the way, and tells how it is. To be called with no message
 * in hand.
 *
 * @throws AgentError STREAM_INCOMPATIBLE when the present one is made otherwise, or there is none and it may not be created
 */
export async function ensureConsumer(bus: Bus, spec: ConsumerSpec, logger: Logger): Promise<ConsumerInfo> {
  const present = await consumerInfo(bus, spec.name);
  if (present === undefined) return create(bus, spec, logger);
  requireFit(present.config, spec);
  const reason = reasonToRenew(present, spec);
  if (reason === undefined) return present;
  try {
    await bus.connection.guard(bus.jsm.consumers.delete(STREAMS.commands, spec.name));
  } catch (error) {
    if (!isDenied(error)) throw error;
    logger.warn({ consumer: spec.name, reason }, 'Not permitted to make the consumer anew; going on with it as it is');
    return present;
  }
  logger.info({ consumer: spec.name, reason }, 'Making the consumer anew');
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

function reasonToRenew(present: ConsumerInfo, { after, skip, lastSeq }: ConsumerSpec): string | undefined {
  // After a power cut the stream may have lost more than the consumer, which then would wait for sequences long past.
  if (present.delivered.stream_seq > lastSeq) return 'it is ahead of its stream';
  // Handed to a connection that broke under it. It would come again, but only after the acknowledgement wait.
  if (present.num_ack_pending > 0) return 'a message of it was lost on the way';
  if (skip && present.num_pending > 0 && present.ack_floor.stream_seq < after) return 'it is behind what was handled';
  return undefined;
}

async function create(
  bus: Bus,
  { name, filter, ackWaitMs, after }: ConsumerSpec,
  logger: Logger,
): Promise<ConsumerInfo> {
  try {
    const info = await bus.connection.guard(
      bus.jsm.consumers.add(STREAMS.commands, {
        durable_name: name,
        filter_subject: filter,
        ack_policy: AckPolicy.Explicit,
        // With more than one on the way, a redelivery would be overtaken by its successor.
        max_ack_pending: 1,
        ack_wait: nanos(ackWaitMs),
        max_deliver: -1,
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: after + 1,
        replay_policy: ReplayPolicy.Instant,
        num_replicas: 1,
      }),
    );
    logger.info({ consumer: name, after }, 'Created the consumer');
    return info;
  } catch (error) {
    if (!isDenied(error)) throw error;
    throw new AgentError(
      'STREAM_INCOMPATIBLE',
      `Stream ${STREAMS.commands} has no consumer ${name} and this account may not create it; enrol the host at the controller`,
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
