import * as z from 'zod';
import { ATTACH_POINT_NAMES } from '../domain/hook.js';
import { codeSchema } from './codes.js';
import { instant, parseMessage } from './reading.js';

/** The result of a command. */
export const ACK_STATUSES = ['applied', 'unchanged', 'failed', 'rejected', 'expired', 'superseded'] as const;

export type AckStatus = (typeof ACK_STATUSES)[number];

const PROGRAM_RESULTS = ['started', 'updated', 'moved', 'unchanged', 'stopped', 'disabled', 'failed'] as const;

export const faultSchema = z
  .object({
    path: z.exactOptional(z.string()).describe('Where in the payload: 0.bpf_programs.xdp_ingress.2.seq_id'),
    code: codeSchema,
    message: z.string().describe('One sentence that a person can act on'),
    detail: z.exactOptional(z.string()).describe("The underlying cause: the verifier's last lines, an errno in words"),
  })
  .describe('One thing that is wrong');

const programOutcomeSchema = z
  .object({
    iface: z.string().describe("'' for a probe"),
    direction: z.enum([...ATTACH_POINT_NAMES, '']).describe("'' for a probe"),
    name: z.string(),
    version: z.string(),
    prog_id: z.exactOptional(z.int()).describe("The kernel's program id; absent for a program that does not run"),
    result: z.enum(PROGRAM_RESULTS),
    message: z.exactOptional(z.string()),
  })
  .describe('What was done with one program');

/**
 * The answer to one command, as it is stored in the acknowledgement stream. Its field names are an interface: users'
 * scripts depend on them.
 */
export const acknowledgementSchema = z
  .object({
    id: z.string().describe("The command's id, also in the header L3AF-Command-Id"),
    host: z.string(),
    verb: z
      .string()
      .describe("Last token of the command's subject. An unknown verb if the command was rejected for that"),
    gen: z.exactOptional(z.int()).describe('L3AF-Gen of the command'),
    seq: z.int().describe('Sequence of the command in its stream'),
    status: z.enum(ACK_STATUSES),
    code: z.exactOptional(codeSchema).describe('Absent when applied or unchanged'),
    message: z
      .exactOptional(z.string())
      .describe(
        'Absent when applied or unchanged, unless something was left out or still has to be done, or what is not ours is in the way',
      ),
    errors: z.array(faultSchema),
    programs: z.array(programOutcomeSchema),
    undone: z
      .exactOptional(z.boolean())
      .describe('After a failure: whether everything was rolled back to its state before the command'),
    received_at: instant.describe('When the agent received the command'),
    finished_at: instant.describe('When its outcome was known'),
    duration_ms: z
      .number()
      .describe('Time between the two, in milliseconds; includes the wait for other work on the host'),
  })
  .meta({ title: 'Acknowledgement', description: 'The result of one command' });

export type Acknowledgement = z.infer<typeof acknowledgementSchema>;

/** What was done with one program, in an acknowledgement. */
export type AckProgram = z.infer<typeof programOutcomeSchema>;

/** @throws AgentError INVALID_JSON or INVALID_FIELD if the message is not an acknowledgement */
export function parseAcknowledgement(body: Uint8Array): Acknowledgement {
  return parseMessage('acknowledgement', acknowledgementSchema, body);
}
