import type { DesiredState } from '../domain/desired.js';

/** Names a command across redeliveries. */
export interface CommandKey {
  /** The sender's `Nats-Msg-Id`, or `<stream>:<sequence>`. */
  readonly id: string;
  /** Whether `id` is the second form, which a server restored from an older store gives to other commands again. */
  readonly idIsSequence: boolean;
  /** Sequence in the command stream. */
  readonly seq: number;
  /** When the server stored it, RFC 3339. */
  readonly storedAt: string;
  /** Creation time of the stream that it came from, RFC 3339. */
  readonly streamCreated: string;
}

/** An answer on its way to the acknowledgement stream. */
export interface OutboxEntry {
  /** Its `Nats-Msg-Id`. Two commands must not share one, or the stream drops the second answer. */
  readonly id: string;
  readonly subject: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What is known of one command. */
export interface CommandRecord {
  readonly key: CommandKey;
  readonly verb: string;
  /** How many times it was begun. */
  readonly attempts: number;
  /** What became of it; absent: begun, not finished. */
  readonly status?: string;
  /** Whether its answer is known to be stored in the acknowledgement stream; also true if it was finished without one. */
  readonly acknowledged: boolean;
  /** Kept after it was confirmed too, as long as there is room, so that the same answer can be given again. */
  readonly answer?: OutboxEntry;
}

/** The outcome of one command, and what it changed. What is absent stays as it is. */
export interface Finish {
  readonly key: CommandKey;
  readonly verb: string;
  readonly status: string;
  readonly desired?: DesiredState;
  readonly generation?: number;
  /** Whether deltas are taken again. */
  readonly clearsAwait?: boolean;
  readonly outbox?: OutboxEntry;
}

/** The newest command message that was answered, and of which stream. */
export interface StreamMark {
  /** Creation time of the stream, RFC 3339. */
  readonly created: string;
  readonly lastSeq: number;
  /** When the server stored that message, RFC 3339; '' where that is not known. */
  readonly storedAt: string;
  /** From a rewind to the next deploy: the end of the stream when that was noticed. */
  readonly newAfter?: number;
}

/** One change of the journal's state. A line of the file holds one or more, which happen together or not at all. */
export type JournalRecord =
  | { readonly op: 'begin'; readonly key: CommandKey; readonly verb: string }
  | { readonly op: 'take-back'; readonly key: CommandKey }
  | { readonly op: 'finish'; readonly entries: readonly Finish[] }
  | { readonly op: 'confirm'; readonly ids: readonly string[] }
  | { readonly op: 'desired'; readonly desired: DesiredState }
  | { readonly op: 'await-deploy'; readonly reason: string }
  | { readonly op: 'move-stream'; readonly stream: StreamMark };

/** The journal's first line: who wrote it in which version, and the whole state at that moment. */
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

/** Whether two deliveries are the same command is whether their identities are equal. */
export function identityOf({ id, idIsSequence, storedAt }: CommandKey): string {
  return idIsSequence ? `sequence ${storedAt} ${id}` : `id ${id}`;
}
