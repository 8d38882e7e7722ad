import * as z from 'zod';
import { instant } from './reading.js';

/** What an agent reports without a request. The kind is also the last token of the event's subject. */
const EVENT_KINDS = [
  'started',
  'adopted',
  'drift-repaired',
  'companion-restarted',
  'companion-given-up',
  'quarantined',
  'resync-required',
  'rewind',
  'answer-altered',
] as const;

export type EventKind = (typeof EVENT_KINDS)[number];

export const eventSchema = z
  .object({
    host: z.string(),
    instance_id: z.string().describe('Identifies this run of the agent'),
    kind: z.string().meta({ examples: [...EVENT_KINDS] }),
    at: instant,
    message: z.string().describe('One sentence for people'),
    command_id: z.exactOptional(z.string()).describe('The command that the event is about'),
    data: z.exactOptional(z.record(z.string(), z.unknown())).describe('Further facts, by kind'),
  })
  .meta({ title: 'Event', description: 'Something that happened on a host without a command' });
