/** The newest command message that was answered, and its stream. */
export interface Mark {
  /** Creation time of the stream, RFC 3339. */
  readonly created: string;
  /**
   * 0 from a rewind to the next deploy: answered messages may come again, and are then recognised only by their time.
   */
  readonly lastSeq: number;
  /** When the server stored that message, ISO 8601 in UTC with milliseconds; '' if unknown. */
  readonly storedAt: string;
  /**
   * Set from a rewind to the next deploy. Messages after this sequence were stored after the rewind was noticed,
   * whatever their time is: the clock of another server may be behind.
   */
  readonly newAfter?: number;
}

/**
 * How a message or stream relates to the last answered message. It follows; it lies before (a later deploy has replaced
 * it); the stream was put back to an earlier state and uses its sequences a second time; or the stream was created
 * again.
 */
export type Continuity = 'follows' | 'lies-before' | 'put-back' | 'made-anew';

/** @param known undefined before the first command */
export function continuityOfMessage(
  message: { readonly seq: number; readonly storedAt: string; readonly streamCreated: string },
  known: Mark | undefined,
): Continuity {
  if (known === undefined) return 'follows';
  if (message.streamCreated !== known.created) return 'made-anew';
  if (known.lastSeq === 0) {
    const isNew = known.newAfter !== undefined && message.seq > known.newAfter;
    return isNew || message.storedAt >= known.storedAt ? 'follows' : 'lies-before';
  }
  if (message.seq > known.lastSeq) return 'follows';
  return message.storedAt > known.storedAt ? 'put-back' : 'lies-before';
}

/**
 * @param stream its newest message, for whichever host
 * @param storedAtMark when the message that now has the known sequence was stored: a stream that was put back may have
 *   grown past it
 */
export function continuityOfStream(
  stream: { readonly created: string; readonly lastSeq: number },
  known: Mark | undefined,
  storedAtMark?: string,
): Continuity {
  if (known === undefined) return 'follows';
  if (stream.created !== known.created) return 'made-anew';
  if (stream.lastSeq < known.lastSeq) return 'put-back';
  if (known.lastSeq === 0 || known.storedAt === '' || storedAtMark === undefined) return 'follows';
  return sameMoment(known.storedAt, storedAtMark) ? 'follows' : 'put-back';
}

/**
 * Compares two message times. The server reports a time in nanoseconds and as text; after truncation the two may differ
 * by a millisecond.
 */
function sameMoment(one: string, other: string): boolean {
  return Math.abs(Date.parse(one) - Date.parse(other)) <= 1;
}
