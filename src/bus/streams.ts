import type { StreamConfig } from 'nats';
import { AgentError } from '../errors.js';
import { STREAMS, type Subjects } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import { insist } from './insist.js';
import type { Logger } from './logger.js';
import { API_ERROR, apiErrorOf, isDenied, isNotFound } from './nats-errors.js';
import { millisOf, type Requirement, type StreamSpec, streamSpecs } from './stream-specs.js';

export interface StreamFacts {
  /** How long a registration in `L3AF_HOSTS` lives unless it is renewed. */
  readonly hostsTtlMs: number;
}

/**
 * Makes sure that every stream and bucket is there and fit for use. Absent ones are created, present ones are never altered.
 * Tries for as long as JetStream is away.
 *
 * @param subjects of any host; only those that span all hosts matter
 * @throws AgentError STREAM_INCOMPATIBLE naming stream, setting, found and wanted; or that a stream is absent and may not be created
 */
export async function ensureStreams(bus: Bus, subjects: Subjects, logger: Logger): Promise<StreamFacts> {
  let hostsTtlMs = 0;
  for (const spec of streamSpecs(subjects)) {
    const config = await insist(bus, () => ensureStream(bus, spec, logger), {
      onRetry: (error) =>
        logger.warn({ stream: spec.config.name, err: error }, 'Could not look after the stream; trying again'),
    });
    if (config.name === `KV_${STREAMS.hosts}`) hostsTtlMs = millisOf(config.max_age);
  }
  return { hostsTtlMs };
}

async function ensureStream(bus: Bus, spec: StreamSpec, logger: Logger): Promise<StreamConfig> {
  const present = await findStream(bus, spec, logger);
  if (present === 'unknown') return spec.config as StreamConfig;
  const config = present ?? (await createStream(bus, spec, logger));
  requireFit(config, spec.requirements);
  return config;
}

async function findStream(
  bus: Bus,
  { config }: StreamSpec,
  logger: Logger,
): Promise<StreamConfig | 'unknown' | undefined> {
  try {
    return (await bus.connection.guard(bus.jsm.streams.info(config.name))).config;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    if (!isDenied(error)) throw error;
    logger.debug({ stream: config.name }, 'Not permitted to look at the stream; taking it to be as it should');
    return 'unknown';
  }
}

async function createStream(bus: Bus, { config }: StreamSpec, logger: Logger): Promise<StreamConfig> {
  try {
    const created = await bus.connection.guard(bus.jsm.streams.add(config));
    logger.info({ stream: config.name, subjects: config.subjects }, 'Created the stream');
    return created.config;
  } catch (error) {
    // Another agent was first, with other settings than ours: they are judged like any that are present.
    if (apiErrorOf(error) === API_ERROR.streamNameInUse)
      return (await bus.connection.guard(bus.jsm.streams.info(config.name))).config;
    if (apiErrorOf(error) === API_ERROR.subjectsOverlap) {
      throw new AgentError(
        'STREAM_INCOMPATIBLE',
        `Another stream captures subjects of ${config.name} already (${config.subjects.join(', ')}); remove or rename it`,
        { cause: error },
      );
    }
    if (isDenied(error)) {
      throw new AgentError(
        'STREAM_INCOMPATIBLE',
        `Stream ${config.name} does not exist and this account may not create it; have the controller create it at enrolment`,
        { cause: error },
      );
    }
    throw error;
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
