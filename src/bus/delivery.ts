/** What identifies a message of the command stream. Small enough to keep many of them in memory. */
export interface DeliveryHead {
  /** `Nats-Msg-Id`, else `<stream>:<sequence>`. */
  readonly id: string;
  /** Last token of the subject. It may be an unknown verb. */
  readonly verb: string;
  /** Sequence in the command stream. */
  readonly seq: number;
  /** When the server stored it, RFC 3339. */
  readonly storedAt: string;
  /** `L3AF-Gen` as received; undefined when absent. */
  readonly gen: string | undefined;
  /** `L3AF-Prev-Gen` as received. */
  readonly prevGen: string | undefined;
  /** `L3AF-Expires` as received. */
  readonly expires: string | undefined;
  /** Creation time of its stream, RFC 3339. It differs if the stream was deleted and created again. */
  readonly streamCreated: string;
}

/** One message of the command stream, as the agent handles it. */
export interface Delivery extends DeliveryHead {
  readonly body: Uint8Array;
}

/** What the handler wants done with a delivery once its answer is safely stored. */
export type Disposition =
  /** Handled: acknowledge with confirmation. */
  | 'done'
  /** Can never be handled (bad input): terminate. */
  | 'terminate'
  /** Not handled, but not faulty: give it back, so that it is delivered again. */
  | 'later';

/** Where the stream and the host's consumer are. */
export interface StreamPosition {
  readonly created: string;
  readonly lastSeq: number;
  /** The durable consumer's acknowledged floor (stream sequence); undefined when there is no consumer yet. */
  readonly consumerFloor: number | undefined;
}

/** The commands that a starting agent has to catch up with. Their bodies are read later, one by one. */
export interface Backlog {
  /**
   * In stream order. Past a known sequence: all. With nothing known, the first one is the last usable `deploy`, if
   * there is one.
   */
  readonly deliveries: readonly DeliveryHead[];
  /** Sequence of the newest message that was considered. Consuming continues after it. */
  readonly upTo: number;
}

export function headOf({ body: _, ...head }: Delivery): DeliveryHead {
  return head;
}
