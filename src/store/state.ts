import type { DesiredState } from '../domain/desired.js';
import {
  type CommandKey,
  type CommandRecord,
  type Finish,
  identityOf,
  type JournalRecord,
  type Snapshot,
  type StoredAnswer,
  type StreamMark,
} from './records.js';

/** How much is remembered about finished commands. */
export interface Limits {
  /** Number of commands, finished and confirmed, or begun and abandoned. */
  readonly maxRecords: number;
  /**
   * UTF-16 code units of the bodies of confirmed answers. Beyond it the oldest bodies are dropped, but not the
   * outcomes.
   */
  readonly maxAnswerLength: number;
}

/**
 * The state that a journal describes. Only records change it, so that reading a file gives the same state as writing
 * it.
 */
export class JournalState {
  readonly instanceId: string;
  desired: DesiredState | null = null;
  generation: number | undefined;
  stream: StreamMark | undefined;
  awaitingDeploy: string | undefined;

  readonly #limits: Limits;
  /** By identity, in the order of their last begin or finish. */
  readonly #commands = new Map<string, CommandRecord>();
  /** By identity: answers that are not confirmed yet, in the order in which the commands were finished. */
  readonly #pending = new Map<string, StoredAnswer>();
  #answerLength = 0;

  /** An empty state. */
  constructor(instanceId: string, limits: Limits) {
    this.instanceId = instanceId;
    this.#limits = limits;
  }

  static from(snapshot: Snapshot, limits: Limits): JournalState {
    const state = new JournalState(snapshot.instanceId, limits);
    state.desired = snapshot.desired;
    state.generation = snapshot.generation;
    state.stream = snapshot.stream;
    state.awaitingDeploy = snapshot.awaitingDeploy;
    for (const command of snapshot.commands) state.#put(command);
    state.#forget();
    return state;
  }

  find(key: CommandKey): CommandRecord | undefined {
    return this.#commands.get(identityOf(key));
  }

  get unfinished(): boolean {
    return [...this.#commands.values()].some(({ status }) => status === undefined);
  }

  /** Answers that are not confirmed yet, oldest first. */
  pending(): readonly StoredAnswer[] {
    return [...this.#pending.values()];
  }

  apply(record: JournalRecord): void {
    switch (record.op) {
      case 'begin':
        this.#begin(record.key, record.verb);
        break;
      case 'take-back':
        this.#takeBack(record.key);
        break;
      case 'finish':
        for (const entry of record.entries) this.#finish(entry);
        break;
      case 'confirm':
        for (const id of record.ids) this.#confirm(id);
        break;
      case 'desired':
        this.desired = record.desired;
        break;
      case 'await-deploy':
        this.awaitingDeploy = record.reason;
        break;
      case 'move-stream':
        this.stream = record.stream;
        break;
    }
    this.#forget();
  }

  snapshot(): Snapshot {
    return {
      'l3af-journal': 1,
      instanceId: this.instanceId,
      desired: this.desired,
      ...(this.generation !== undefined && { generation: this.generation }),
      ...(this.stream !== undefined && { stream: this.stream }),
      ...(this.awaitingDeploy !== undefined && { awaitingDeploy: this.awaitingDeploy }),
      commands: [...this.#commands.values()],
    };
  }

  #begin(key: CommandKey, verb: string): void {
    const attempts = (this.find(key)?.attempts ?? 0) + 1;
    this.#put({ key, verb, attempts, acknowledged: false });
  }

  #takeBack(key: CommandKey): void {
    const command = this.find(key);
    if (command === undefined || command.status !== undefined) return;
    // It stays unfinished, since its effects may not have been rolled back.
    this.#put({ ...command, attempts: Math.max(0, command.attempts - 1) });
  }

  #finish({ key, verb, status, desired, generation, clearsAwait, outbox }: Finish): void {
    this.#put({
      key,
      verb,
      attempts: this.find(key)?.attempts ?? 0,
      status,
      acknowledged: outbox === undefined,
      ...(outbox !== undefined && { answer: outbox }),
    });
    if (desired !== undefined) this.desired = desired;
    if (generation !== undefined) this.generation = generation;
    if (clearsAwait === true) this.awaitingDeploy = undefined;
    const known = this.stream;
    // After a rewind the mark stays until the awaited deploy, since earlier commands may be old.
    if (known?.lastSeq === 0 && this.awaitingDeploy !== undefined) return;
    if (known === undefined || known.created !== key.streamCreated || known.lastSeq < key.seq) {
      this.stream = { created: key.streamCreated, lastSeq: key.seq, storedAt: key.storedAt };
    }
  }

  #confirm(id: string): void {
    for (const [identity, answer] of this.#pending) {
      if (answer.id !== id) continue;
      this.#pending.delete(identity);
      const command = this.#commands.get(identity);
      if (command !== undefined) this.#commands.set(identity, { ...command, acknowledged: true });
      this.#answerLength += answer.body.length;
      return;
    }
  }

  /** Adds a command as the newest, and replaces its earlier entry. */
  #put(command: CommandRecord): void {
    const identity = identityOf(command.key);
    this.#remove(identity);
    this.#commands.set(identity, command);
    if (command.answer === undefined) return;
    if (command.acknowledged) this.#answerLength += command.answer.body.length;
    else this.#pending.set(identity, command.answer);
  }

  #remove(identity: string): void {
    const command = this.#commands.get(identity);
    if (command?.acknowledged) this.#answerLength -= command.answer?.body.length ?? 0;
    this.#pending.delete(identity);
    this.#commands.delete(identity);
  }

  /** Drops what exceeds the limits, oldest first, but no command whose answer is not confirmed yet. */
  #forget(): void {
    const { maxRecords, maxAnswerLength } = this.#limits;
    const excess = () => this.#commands.size - this.#pending.size > maxRecords;
    if (!excess() && this.#answerLength <= maxAnswerLength) return;
    for (const [identity, command] of this.#commands) {
      if (this.#pending.has(identity)) continue;
      if (excess()) this.#remove(identity);
      else if (this.#answerLength <= maxAnswerLength) break;
      else if (command.answer !== undefined) this.#dropAnswer(identity, command);
    }
  }

  #dropAnswer(identity: string, { answer, ...command }: CommandRecord): void {
    this.#commands.set(identity, command);
    this.#answerLength -= answer?.body.length ?? 0;
  }
}
