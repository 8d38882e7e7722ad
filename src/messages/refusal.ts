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

/** Texts are not cut shorter than this: they tell something still. */
const SHORTEST_TEXT = 128;

/**
 * The refusal, and then what is left of it when less and less of it is told: half of the errors each time, and half of each text. The
 * message says so.
 */
export function* everShorter(refusal: Refusal): Generator<Refusal> {
  yield refusal;
  const { code, errors = [] } = refusal;
  let text = Math.max(...[refusal, ...errors].map(({ message }) => message.length), SHORTEST_TEXT);
  for (let count = errors.length; count > 0 || text > SHORTEST_TEXT; ) {
    count = Math.floor(count / 2);
    text = Math.max(Math.floor(text / 2), SHORTEST_TEXT);
    const kept = errors.slice(0, count).map((fault) => {
      const { path, message, detail } = fault;
      return {
        ...fault,
        message: cut(message, text),
        ...(path !== undefined && { path: cut(path, text) }),
        ...(detail !== undefined && { detail: cut(detail, text) }),
      };
    });
    const note = `(shortened to what the server takes: ${count} of ${errors.length} errors)`;
    yield { code, message: `${cut(refusal.message, text)} ${note}`, ...(refusal.errors && { errors: kept }) };
  }
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
