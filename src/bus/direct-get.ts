import type { Msg } from 'nats';
import { AgentError } from '../errors.js';
import { STREAMS } from '../messages/subjects.js';
import type { Bus } from './connect.js';
import type { Delivery } from './delivery.js';
import { toDelivery } from './message.js';
import { isDenied } from './nats-errors.js';

const TIMEOUT_MS = 10_000;

/**
 * The newest command on a subject. It costs one look-up, however long the stream is. The request's subject contains the
 * subject (ADR-31 of NATS), so that permissions can confine a host to its own commands.
 *
 * @throws AgentError BROKER_UNREACHABLE, transient, when the connection breaks meanwhile; BROKER_REFUSED; errors of
 *   nats.js
 */
export async function newestOn(bus: Bus, subject: string, streamCreated: string): Promise<Delivery | undefined> {
  const request = `${bus.jsApiPrefix}.DIRECT.GET.${STREAMS.commands}.${subject}`;
  const answer = await bus.connection.guard(bus.nc.request(request, '', { timeout: TIMEOUT_MS }));
  if (answer.headers?.code === 404) return undefined;
  return toDelivery({ subject, data: answer.data, headers: answer.headers }, originOfDirect(answer), streamCreated);
}

/**
 * The command at a sequence, of any host. Undefined when there is none, or the account may not ask for it: permissions
 * cannot confine this request to one host.
 *
 * @throws as {@link newestOn}
 */
export async function commandAt(bus: Bus, seq: number, streamCreated: string): Promise<Delivery | undefined> {
  const request = `${bus.jsApiPrefix}.DIRECT.GET.${STREAMS.commands}`;
  try {
    const exchange = bus.nc.request(request, JSON.stringify({ seq }), { timeout: TIMEOUT_MS });
    const answer = await bus.connection.guard(exchange);
    if (answer.headers?.code === 404) return undefined;
    const origin = originOfDirect(answer);
    // If the sequence was deleted, the server returns the next message.
    if (origin.seq !== seq) return undefined;
    const subject = answer.headers?.get('Nats-Subject') ?? '';
    return toDelivery({ subject, data: answer.data, headers: answer.headers }, origin, streamCreated);
  } catch (error) {
    if (isDenied(error)) return undefined;
    throw error;
  }
}

function originOfDirect({ headers, subject }: Msg): { seq: number; storedAtMs: number } {
  const seq = Number(headers?.get('Nats-Sequence') || Number.NaN);
  const storedAtMs = Date.parse(headers?.get('Nats-Time-Stamp') ?? '');
  if (Number.isFinite(seq) && Number.isFinite(storedAtMs)) return { seq, storedAtMs };
  const status = `${headers?.code ?? ''} ${headers?.description ?? ''}`.trim();
  throw new AgentError(
    'BROKER_REFUSED',
    `NATS answered a direct get with ${status === '' ? `a reply on ${subject}` : status}`,
  );
}
