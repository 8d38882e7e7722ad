import { z } from 'zod';
import { instant } from './reading.js';

/**
 * A host's entry in the registry, written again at every heartbeat; it disappears by itself when the heartbeats stop.
 */
export const registrationSchema = z
  .object({
    host: z.string().describe('The name, with its dots; the key is its token'),
    version: z.string().describe('Version of the agent'),
    instance_id: z.string().describe('Tells this run of the agent from every other'),
    started_at: instant,
    seen_at: instant.describe('When the heartbeat was sent'),
    interfaces: z.array(z.object({ name: z.string(), index: z.int() })),
    labels: z.record(z.string(), z.string()).describe("From the agent's configuration"),
    kernel: z.object({
      release: z.string(),
      features: z.record(z.string(), z.boolean()).describe('What was found by trying: tcx, xdp_link, …'),
    }),
    gen: z.exactOptional(z.int()).describe('Last generation applied; absent before the first'),
    seq: z.exactOptional(z.int()).describe('Sequence of the last command handled; absent before the first'),
  })
  .meta({ title: 'Host', description: 'Registration and heartbeat of one host' });

export type Registration = z.infer<typeof registrationSchema>;
