import * as z from 'zod';
import { instant } from './reading.js';

/** A host's entry in the registry. It is written again at every heartbeat, and expires when the heartbeats stop. */
export const hostEntrySchema = z
  .object({
    host: z.string().describe('The name, with its dots. The key of the entry is its token'),
    version: z.string().describe('Version of the agent'),
    instance_id: z.string().describe('Identifies this run of the agent'),
    started_at: instant,
    seen_at: instant.describe('When the heartbeat was sent'),
    interfaces: z.array(z.object({ name: z.string(), index: z.int() })),
    labels: z.record(z.string(), z.string()).describe("From the agent's configuration"),
    kernel: z.object({
      release: z.string(),
      features: z
        .record(z.string(), z.boolean())
        .describe('Features of the kernel that the agent has tried out: tcx, xdp_link, …'),
    }),
    gen: z.exactOptional(z.int()).describe('Last generation applied; absent before the first'),
    seq: z.exactOptional(z.int()).describe('Sequence of the last command handled; absent before the first'),
  })
  .meta({ title: 'Host', description: 'Registration and heartbeat of one host' });

export type HostEntry = z.infer<typeof hostEntrySchema>;
