import type { StreamConfig, StreamInfo } from 'nats';
import { AgentError, messageOf } from '../errors.js';
import { STREAMS, type Subjects } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import { insist, isCurable } from './insist.js';
import type { BusLogger } from './logger.js';
import { API_ERROR, apiErrorOf, inWords, isDenied, isNoResponders, isNotFound } from './nats-errors.js';
import { millisOf, type Requirement, type StreamSpec, streamSpecs } from './stream-specs.js';

export interface StreamFacts {
  /** How long a registration in `L3AF_HOSTS` lives unless it is renewed. */
  readonly hostsTtlMs: number;
}

/**
 * Ensures that every stream and bucket exists and has suitable settings. Absent ones are created, present ones are
 * never changed. Retries while JetStream is away, or refuses what somebody can permit at the server.
 *
 * @param subjects of any host; only those that span all hosts matter
 * @throws AgentError STREAM_INCOMPATIBLE with stream, setting, found and wanted value; or when a stream is absent and
 *   may not be created
 */
export async function ensureStreams(bus: Bus, subjects: Subjects, logger: BusLogger): Promise<StreamFacts> {
  let hostsTtlMs = 0;
  for (const spec of streamSpecs(subjects)) {
    const { name } = spec.config;
    const config = await insist(bus, () => ensureStream(bus, spec, logger), {
      passes: isCurable,
      onRetry: (error) => {
        const err = inWords(error, isNoResponders(error) ? {} : { stream: name });
        if (bus.connection.connected) bus.troubles.begin('storing', name, messageOf(err));
        logger.warn({ stream: name, err }, 'could not check or create the stream; trying again');
      },
    });
    bus.troubles.end('storing', name);
    if (name === `KV_${STREAMS.hosts}`) hostsTtlMs = millisOf(config.max_age);
  }
  return { hostsTtlMs };
}

async function ensureStream(bus: Bus, spec: StreamSpec, logger: BusLogger): Promise<StreamConfig> {
  const present = await findStream(bus, spec, logger);
  if (present === 'unknown') return spec.config as StreamConfig;
  const config = present ?? (await createStream(bus, spec, logger));
  requireFit(config, spec.requirements);
  return config;
}

async function findStream(
  bus: Bus,
  { config }: StreamSpec,
  logger: BusLogger,
): Promise<StreamConfig | 'unknown' | undefined> {
  try {
    return (await bus.connection.guard(bus.jsm.streams.info(config.name))).config;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    if (!isDenied(error)) throw error;
    logger.debug({ stream: config.name }, 'not permitted to read the stream settings; assuming that they fit');
    return 'unknown';
  }
}

async function createStream(bus: Bus, { config }: StreamSpec, logger: BusLogger): Promise<StreamConfig> {
  try {
    const created = await addStream(bus, config);
    logger.info({ stream: config.name, subjects: config.subjects }, 'created the stream');
    return created.config;
  } catch (error) {
    // Another agent was first, with other settings. They are checked like those of any present stream.
    if (apiErrorOf(error) === API_ERROR.streamNameInUse)
      return (await bus.connection.guard(bus.jsm.streams.info(config.name))).config;
    if (apiErrorOf(error) === API_ERROR.subjectsOverlap) {
      throw new AgentError(
        'STREAM_INCOMPATIBLE',
        `Another stream already captures subjects of ${config.name} (${config.subjects.join(', ')}); remove or rename it`,
        { cause: error },
      );
    }
    if (isDenied(error)) {
      throw new AgentError(
        'STREAM_INCOMPATIBLE',
        `Stream ${config.name} does not exist and this account may not create it; let the controller create it at enrolment`,
        { cause: error },
      );
    }
    throw error;
  }
}

/** A limit that the account does not grant is not asked for: without one, that of the account holds. */
async function addStream({ connection, jsm }: Bus, config: StreamSpec['config']): Promise<StreamInfo> {
  try {
    return await connection.guard(jsm.streams.add(config));
  } catch (error) {
    if (apiErrorOf(error) !== API_ERROR.tooManyConsumers || config.max_consumers === undefined) throw error;
    const { max_consumers: _, ...rest } = config;
    return await connection.guard(jsm.streams.add(rest));
  }
}

function requireFit(config: StreamConfig, requirements: readonly Requirement[]): void {
  const unfit = requirements.filter((requirement) => !requirement.fits(config));
  if (unfit.length === 0) return;
  const complaints = unfit.map(
    ({ setting, wanted }) => `${setting} is ${JSON.stringify(config[setting] ?? null)}, wanted ${wanted}`,
  );
  throw new AgentError('STREAM_INCOMPATIBLE', `Stream ${config.name} does not fit: ${complaints.join('; ')}`);
}
