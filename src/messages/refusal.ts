import { z } from 'zod';
import { faultSchema } from './ack.js';
import { codeSchema } from './codes.js';

/** The body of the answer to a request that failed. */
export const refusalSchema = z
  .object({
    code: codeSchema,
    message: z.string().describe('Also in the header Nats-Service-Error, on one line'),
    errors: z.exactOptional(z.array(faultSchema)).describe('Each thing that is wrong, as in an acknowledgement'),
  })
  .meta({ title: 'Refusal', description: 'Why a request failed' });

export type Refusal = z.infer<typeof refusalSchema>;

/** Reads a refusal. Of a body that is none, as nats.js answers by itself, there is only the sentence in the header. */
export function readRefusal(body: Uint8Array, header: string): Refusal {
  try {
    return refusalSchema.parse(JSON.parse(new TextDecoder().decode(body)));
  } catch {
    return { code: 'INTERNAL', message: header };
  }
}
