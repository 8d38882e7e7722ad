import * as z from 'zod';
import { faultSchema } from './ack.js';
import { codeSchema } from './codes.js';

/** The body of the answer to a failed request. */
export const refusalSchema = z
  .object({
    code: codeSchema,
    message: z.string().describe('Also in the header Nats-Service-Error, on one line'),
    errors: z.exactOptional(z.array(faultSchema)).describe('Everything that is wrong, as in an acknowledgement'),
  })
  .meta({ title: 'Refusal', description: 'Why a request failed' });

export type RequestRefusal = z.infer<typeof refusalSchema>;

/**
 * Reads a refusal. If the body is none, as in answers that nats.js sends itself, only the sentence in the header is
 * used.
 */
export function readRefusal(body: Uint8Array, header: string): RequestRefusal {
  try {
    return refusalSchema.parse(JSON.parse(new TextDecoder().decode(body)));
  } catch {
    return { code: 'INTERNAL', message: header };
  }
}

/** Texts are not cut shorter than this, so that they still say something. */
const SHORTEST_TEXT = 128;

/**
 * The refusal, then shorter and shorter versions of it: each has half of the errors and half of each text. Its message
 * says so.
 */
export function* everShorter(refusal: RequestRefusal): Generator<RequestRefusal> {
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
    const note = `(shortened to what the server allows: ${count} of ${errors.length} errors)`;
    yield { code, message: `${cut(refusal.message, text)} ${note}`, ...(refusal.errors && { errors: kept }) };
  }
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
