import type { DesiredState } from '../domain/desired.js';

/** Identifies a command across redeliveries. */
export interface CommandKey {
  /** The sender's `Nats-Msg-Id`, or `<stream>:<sequence>`. */
  readonly id: string;
  /** Whether `id` has the second form. A server that is restored from an older store reuses it for other commands. */
  readonly idIsSequence: boolean;
  /** Sequence in the command stream. */
  readonly seq: number;
  /** When the server stored it, RFC 3339. */
  readonly storedAt: string;
  /** Creation time of its stream, RFC 3339. */
  readonly streamCreated: string;
}

/** An answer for the acknowledgement stream. */
export interface StoredAnswer {
  /** Its `Nats-Msg-Id`. It must be unique, or the stream drops the second answer. */
  readonly id: string;
  readonly subject: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What is known about one command. */
export interface CommandRecord {
  readonly key: CommandKey;
  readonly verb: string;
  /** How many times it was begun. */
  readonly attempts: number;
  /** Its outcome; absent if it was begun and not finished. */
  readonly status?: string;
  /** Whether its answer is confirmed in the acknowledgement stream. Also true if it was finished without an answer. */
  readonly acknowledged: boolean;
  /** Also kept after it is confirmed, while there is room, so that the same answer can be given again. */
  readonly answer?: StoredAnswer;
}

/** The outcome of one command and its changes. Absent fields stay unchanged. */
export interface Finish {
  readonly key: CommandKey;
  readonly verb: string;
  readonly status: string;
  readonly desired?: DesiredState;
  readonly generation?: number;
  /** Whether deltas are accepted again. */
  readonly clearsAwait?: boolean;
  readonly outbox?: StoredAnswer;
}

/** The newest command message that was answered, and its stream. */
export interface StreamMark {
  /** Creation time of the stream, RFC 3339. */
  readonly created: string;
  readonly lastSeq: number;
  /** When the server stored that message, RFC 3339; '' if not known. */
  readonly storedAt: string;
  /** Set from a rewind until the next deploy: the end of the stream when the rewind was noticed. */
  readonly newAfter?: number;
}

/** One change of the journal's state. A line of the file holds one or more records, which are applied all or none. */
export type JournalRecord =
  | { readonly op: 'begin'; readonly key: CommandKey; readonly verb: string }
  | { readonly op: 'take-back'; readonly key: CommandKey }
  | { readonly op: 'finish'; readonly entries: readonly Finish[] }
  | { readonly op: 'confirm'; readonly ids: readonly string[] }
  | { readonly op: 'desired'; readonly desired: DesiredState }
  | { readonly op: 'await-deploy'; readonly reason: string }
  | { readonly op: 'move-stream'; readonly stream: StreamMark };

/** The first line of the journal: the version of the format, who wrote it, and the whole state at that time. */
export interface Snapshot {
  /** Version of the format. */
  readonly 'l3af-journal': 1;
  readonly instanceId: string;
  /** Null: not known. */
  readonly desired: DesiredState | null;
  readonly generation?: number;
  readonly stream?: StreamMark;
  readonly awaitingDeploy?: string;
  /** Oldest first. */
  readonly commands: readonly CommandRecord[];
}

/** The identity of a command. Two deliveries with equal identities are the same command. */
export function identityOf({ id, idIsSequence, storedAt }: CommandKey): string {
  return idIsSequence ? `sequence ${storedAt} ${id}` : `id ${id}`;
}
