import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { DesiredState } from '../domain/desired.js';
import { AgentError } from '../errors.js';
import { type FileOps, nodeFileOps } from './file-ops.js';
import { keepInstanceId, keptInstanceId } from './instance-id.js';
import { LogFile } from './log-file.js';
import type { JournalLogger, JournalOptions, OpenReport } from './options.js';
import type { CommandKey, CommandRecord, Finish, JournalRecord, OutboxEntry, StreamMark } from './records.js';
import { restore } from './restore.js';
import { parseRecords } from './schema.js';
import { JournalState, type Limits } from './state.js';

export type { JournalLogger, JournalOptions, OpenReport } from './options.js';
export type { CommandKey, CommandRecord, Finish, OutboxEntry, StreamMark } from './records.js';

const FILE_NAME = 'journal';

/** The file may grow to so many times its first line, the state at the last compaction. */
const GROWTH = 4;

/**
 * The one file that makes effects exactly once: which commands were begun and what became of them, the desired state, and the
 * answers still on their way. A write is on disk when its promise resolves; when it rejects, nothing has changed.
 */
export class Journal {
  readonly #dir: string;
  readonly #log: LogFile;
  readonly #limits: Limits;
  readonly #compactAbove: number;
  readonly #confirmDelayMs: number;
  readonly #logger: JournalLogger | undefined;
  readonly #files: FileOps;
  #state: JournalState | undefined;
  #compactAt = 0;
  /** Calls run one after another; this is the end of the last one. */
  #last: Promise<unknown> = Promise.resolve();
  /** Ids of confirmed answers that no write has taken along yet. */
  #confirmed: string[] = [];
  #confirmTimer: NodeJS.Timeout | undefined;

  constructor(options: JournalOptions) {
    this.#dir = options.dir;
    this.#limits = {
      maxRecords: options.maxRecords ?? 4096,
      maxAnswerLength: options.maxAnswerLength ?? 4 * 2 ** 20,
    };
    this.#compactAbove = options.compactAbove ?? 2 ** 20;
    this.#confirmDelayMs = options.confirmDelayMs ?? 1000;
    this.#logger = options.logger;
    this.#files = options.files ?? nodeFileOps;
    this.#log = new LogFile(this.#path, this.#files);
  }

  /** @throws AgentError INTERNAL if the directory or the file cannot be read or written; damage is no error but reported */
  open(): Promise<OpenReport> {
    return this.#inTurn(async () => {
      if (this.#state !== undefined) throw new AgentError('INTERNAL', 'The journal is open already');
      try {
        const report = await this.#load();
        await keepInstanceId(this.#dir, this.instanceId, this.#files);
        return report;
      } catch (error) {
        await this.#log.close().catch(() => {});
        throw this.#failure('opened', error);
      }
    });
  }

  /** Writes what is still to be written and lets go of the file. Nothing happens if the journal is not open. */
  close(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state === undefined) return;
      await this.#saveConfirmed();
      clearTimeout(this.#confirmTimer);
      this.#confirmTimer = undefined;
      this.#state = undefined;
      await this.#log.close();
    });
  }

  /** @throws AgentError INTERNAL when its file is not to be found any more: what is written would be lost */
  async assertThere(): Promise<void> {
    if (await this.#files.exists(this.#path)) return;
    throw new AgentError(
      'INTERNAL',
      `The journal ${this.#path} was removed under the agent, which ends; the next one begins anew`,
    );
  }

  /** Made once, with the first journal, and kept beside it too; tells two agents with one host name apart. */
  get instanceId(): string {
    return this.#opened.instanceId;
  }

  /** Null: not known, which is not the same as nothing. */
  get desired(): DesiredState | null {
    return this.#opened.desired;
  }

  /** `L3AF-Gen` of the last applied command that had one. */
  get generation(): number | undefined {
    return this.#opened.generation;
  }

  /** The newest command message that was answered; undefined before the first. */
  get stream(): StreamMark | undefined {
    return this.#opened.stream;
  }

  /** Why deltas are refused until the next deploy; undefined when they are taken. */
  get awaitingDeploy(): string | undefined {
    return this.#opened.awaitingDeploy;
  }

  /** What is known of a command; undefined for one that is new, or that was over long ago. */
  find(key: CommandKey): CommandRecord | undefined {
    return this.#opened.find(key);
  }

  /** Whether a command was begun and not finished: the agent died on it, or is at it. */
  get unfinished(): boolean {
    return this.#opened.unfinished;
  }

  /** Answers on their way, oldest first. */
  pending(): readonly OutboxEntry[] {
    return this.#opened.pending();
  }

  /**
   * Notes that a command is about to take effect.
   *
   * @returns how many times it has been begun without being finished, this time included
   * @throws AgentError INTERNAL for a command that is finished, or if the disk refuses
   */
  begin(key: CommandKey, verb: string): Promise<number> {
    return this.#inTurn(async () => {
      const status = this.#opened.find(key)?.status;
      if (status !== undefined) {
        throw new AgentError('INTERNAL', `Command ${key.id} has been answered (${status}) and cannot be begun again`);
      }
      await this.#write({ op: 'begin', key, verb });
      return this.#opened.find(key)?.attempts ?? 1;
    });
  }

  /** Notes that the command was not the end of who has begun it last: that attempt counts no more. Nothing happens if it is finished. */
  takeBack(key: CommandKey): Promise<void> {
    return this.#inTurn(() => this.#write({ op: 'take-back', key }));
  }

  /** Notes what became of a command, with all that it changed and the answer to be sent, in one write. */
  finish(entry: Finish): Promise<void> {
    return this.finishMany([entry]);
  }

  /** The same for many commands: all of them or none. The later of two entries for one command stands. */
  async finishMany(entries: readonly Finish[]): Promise<void> {
    if (entries.length > 0) await this.#inTurn(() => this.#write({ op: 'finish', entries }));
  }

  setDesired(desired: DesiredState): Promise<void> {
    return this.#inTurn(() => this.#write({ op: 'desired', desired }));
  }

  /** @param reason a clause for the refusals of deltas, until a deploy clears it */
  awaitDeploy(reason: string): Promise<void> {
    return this.#inTurn(() => this.#write({ op: 'await-deploy', reason }));
  }

  /** After a rewind: the stream goes on here, though it was further on before. */
  moveStream(mark: Omit<StreamMark, 'storedAt'> & Partial<StreamMark>): Promise<void> {
    return this.#inTurn(() => this.#write({ op: 'move-stream', stream: { storedAt: '', ...mark } }));
  }

  /**
   * Notes that an answer is stored in its stream. It goes to disk with the next write or shortly after; a crash before that has
   * the answer sent again, and the stream knows it by its id. Unknown ids are let pass.
   */
  confirm(id: string): Promise<void> {
    return this.#inTurn(async () => {
      this.#opened.apply({ op: 'confirm', ids: [id] });
      this.#confirmed.push(id);
      this.#confirmTimer ??= setTimeout(() => {
        this.#confirmTimer = undefined;
        void this.#inTurn(() => this.#saveConfirmed());
      }, this.#confirmDelayMs).unref();
    });
  }

  async #load(): Promise<OpenReport> {
    await this.#files.makeDir(this.#dir);
    const lines = await this.#log.read();
    if (lines === undefined) {
      await this.#beginEmpty();
      return { fresh: true, truncatedTail: false };
    }
    let state: JournalState;
    try {
      state = restore(lines, this.#limits);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      // The time alone could name a file that is there: an agent that is started again at once finds the same damage.
      const path = `${this.#path}.damaged-${new Date().toISOString()}-${randomUUID().slice(0, 4)}`;
      await this.#log.keepAs(path);
      await this.#beginEmpty();
      this.#logger?.error({ path, reason }, 'journal is damaged; it is kept aside and an empty one begins');
      return { fresh: false, damaged: { path, reason }, truncatedTail: false };
    }
    await this.#log.resume(lines);
    this.#state = state;
    this.#compactAt = this.#limitOfGrowth();
    if (lines.torn)
      this.#logger?.warn({ length: lines.length }, 'last write to the journal was cut short and is undone');
    return { fresh: false, truncatedTail: lines.torn };
  }

  async #beginEmpty(): Promise<void> {
    const instanceId = (await keptInstanceId(this.#dir, this.#files)) ?? randomUUID();
    const state = new JournalState(instanceId, this.#limits);
    await this.#log.replace(state.snapshot());
    this.#state = state;
    this.#compactAt = this.#limitOfGrowth();
  }

  /** One line, with the confirmations that wait; then the state follows. */
  async #write(...records: readonly JournalRecord[]): Promise<void> {
    const state = this.#opened;
    const waiting: JournalRecord[] = this.#confirmed.length > 0 ? [{ op: 'confirm', ids: this.#confirmed }] : [];
    const line = checked([...waiting, ...records]);
    try {
      await this.#log.append(line);
    } catch (error) {
      throw this.#failure('written', error);
    }
    this.#confirmed = [];
    for (const record of records) state.apply(record);
    if (this.#log.length > this.#compactAt) await this.#compact(state);
  }

  async #saveConfirmed(): Promise<void> {
    if (this.#confirmed.length === 0 || this.#state === undefined) return;
    try {
      await this.#write();
    } catch (error) {
      this.#logger?.warn({ err: error }, 'confirmed answers could not be noted; they go with the next write');
    }
  }

  /** What was to be written is on disk already, so a failure here is nobody's but the log's. */
  async #compact(state: JournalState): Promise<void> {
    try {
      await this.#log.replace(state.snapshot());
      this.#compactAt = this.#limitOfGrowth();
    } catch (error) {
      this.#compactAt = this.#log.length * 2;
      this.#logger?.warn({ err: error }, 'journal could not be compacted; it goes on growing for now');
    }
  }

  #limitOfGrowth(): number {
    return Math.max(this.#compactAbove, GROWTH * this.#log.headLength);
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(task);
    this.#last = turn.catch(() => {});
    return turn;
  }

  #failure(what: 'opened' | 'written', error: unknown): AgentError {
    if (error instanceof AgentError) return error;
    const cause = error instanceof Error ? error.message : String(error);
    const message = `The journal ${this.#path} cannot be ${what}: ${cause}; free space, or see to the disk`;
    return new AgentError('INTERNAL', message, { cause: error, transient: true });
  }

  get #path(): string {
    return join(this.#dir, FILE_NAME);
  }

  get #opened(): JournalState {
    if (this.#state === undefined) throw new AgentError('INTERNAL', 'The journal is not open');
    return this.#state;
  }
}

/** What could not be read again would damage the journal, so it is not written in the first place. */
function checked(records: readonly JournalRecord[]): readonly JournalRecord[] {
  try {
    return parseRecords(records);
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new AgentError('INTERNAL', `What was to be noted in the journal has not its form: ${cause}`, {
      cause: error,
    });
  }
}
