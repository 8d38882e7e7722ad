import type { Bus } from '../../src/bus/connect.js';
import { streamSpecs } from '../../src/bus/stream-specs.js';
import type { Subjects } from '../../src/messages/subjects.js';
import { untilGiven } from './until.js';

/**
 * In a cluster, makes the streams as a controller has to, on all its servers: agents make them with one replica. Does
 * nothing elsewhere.
 */
export async function createStreams(bus: Bus, subjects: Subjects, replicas: number): Promise<void> {
  if (replicas === 1) return;
  const specs = streamSpecs(subjects);
  // While a cluster chooses leaders, requests get no answer. The same stream may be added twice.
  const made = specs.map(({ config }) =>
    untilGiven(`the stream ${config.name}`, () => bus.jsm.streams.add({ ...config, num_replicas: replicas })),
  );
  await Promise.all(made);
}
