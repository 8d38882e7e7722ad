/** What a message of the command stream is known by: light enough to have many of them in memory. */
export interface DeliveryHead {
  /** `Nats-Msg-Id`, else `<stream>:<sequence>`. */
  readonly id: string;
  /** Last token of the subject; not necessarily a verb that exists. */
  readonly verb: string;
  /** Sequence in the command stream. */
  readonly seq: number;
  /** When the server stored it, RFC 3339. */
  readonly storedAt: string;
  /** `L3AF-Gen` as it came; undefined when absent. */
  readonly gen: string | undefined;
  /** `L3AF-Prev-Gen` as it came. */
  readonly prevGen: string | undefined;
  /** `L3AF-Expires` as it came. */
  readonly expires: string | undefined;
  /** Creation time of the stream that it came from, RFC 3339: tells a stream made anew from the one known. */
  readonly streamCreated: string;
}

/** One message of the command stream, as the agent handles it. */
export interface Delivery extends DeliveryHead {
  readonly body: Uint8Array;
}

/** What the handler wants done with a delivery once its answer is safely stored. */
export type Disposition =
  /** Handled: double-acknowledge. */
  | 'done'
  /** Never to be handled (bad input): terminate. */
  | 'terminate'
  /** Not handled, and no fault: give it back for whoever asks next. */
  | 'later';

/** What is on the stream for this host. */
export interface StreamPosition {
  readonly created: string;
  readonly lastSeq: number;
  /** The durable consumer's acknowledged floor (stream sequence); undefined when there is no consumer yet. */
  readonly consumerFloor: number | undefined;
}

/** The commands that a starting agent has to catch up with; their bodies are read when they are needed, one by one. */
export interface Backlog {
  /** In stream order. Past a known sequence, all; with nothing known, the first one is the last usable `deploy`, if there is one. */
  readonly deliveries: readonly DeliveryHead[];
  /** Sequence of the newest message that was considered; consuming goes on after it. */
  readonly upTo: number;
}

export function headOf({ body: _, ...head }: Delivery): DeliveryHead {
  return head;
}
