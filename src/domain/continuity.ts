/** The newest command message that was answered, and of which stream. */
export interface Mark {
  /** Creation time of the stream, RFC 3339. */
  readonly created: string;
  /** 0 from a rewind to the next deploy: what was answered may come again, and is then known by its time only. */
  readonly lastSeq: number;
  /** When the server stored that message, ISO 8601 in UTC with milliseconds; '' where that is not known. */
  readonly storedAt: string;
  /**
   * From a rewind to the next deploy: what lies behind this sequence was stored since that was noticed, whatever its time says. The
   * clock of another server may be behind.
   */
  readonly newAfter?: number;
}

/**
 * How something in the stream relates to what was answered last: it follows; it lies before (a later deploy said it all); the stream
 * was put back to an earlier state and hands out sequences for the second time; the stream was made anew.
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
 * @param stream its newest message, whoever that is for
 * @param storedAtMark when the message that now has the known sequence was stored: a stream that was put back may have grown past it
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

/** The server tells a message's time in nanoseconds and in text; the two may differ by a millisecond when they are cut. */
function sameMoment(one: string, other: string): boolean {
  return Math.abs(Date.parse(one) - Date.parse(other)) <= 1;
}
