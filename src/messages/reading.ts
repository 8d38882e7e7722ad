import * as z from 'zod';
import { AgentError } from '../errors.js';

/** A time, RFC 3339. */
export const instant = z.iso.datetime({ offset: true });

/**
 * Reads a message that an agent wrote. Unknown fields are dropped, since the agent may be newer than the reader.
 *
 * @throws AgentError INVALID_JSON or INVALID_FIELD when the message is invalid
 */
export function parseMessage<T>(what: string, schema: z.ZodType<T>, body: Uint8Array): T {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (cause) {
    throw new AgentError('INVALID_JSON', `Expected an ${what} in JSON, got something else`, { cause });
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const path = result.error.issues[0]?.path.join('.') ?? '';
  throw new AgentError('INVALID_FIELD', `Expected an ${what}, got a message that is wrong at "${path}"`, {
    path,
    cause: result.error,
  });
}
