import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { DesiredState } from '../domain/desired.js';
import { AgentError, machineFaultOf, messageOf } from '../errors.js';
import { type FileOps, nodeFileOps } from './file-ops.js';
import { keepInstanceId, keptInstanceId } from './instance-id.js';
import { LogFile } from './log-file.js';
import type { JournalLogger, JournalOptions, OpenReport } from './options.js';
import type { CommandKey, CommandRecord, Finish, JournalRecord, StoredAnswer, StreamMark } from './records.js';
import { restore } from './restore.js';
import { parseRecords } from './schema.js';
import { JournalState, type Limits } from './state.js';

export type { JournalLogger, JournalOptions, OpenReport } from './options.js';
export type { CommandKey, CommandRecord, Finish, StoredAnswer, StreamMark } from './records.js';

const FILE_NAME = 'journal';

/** The file may grow to this many times its first line, which is the state at the last compaction. */
const GROWTH = 4;

/**
 * The file that makes effects exactly once. It records which commands were begun and their outcome, the desired state,
 * and the answers that are not confirmed yet. A write is on disk when its promise resolves. If it rejects, nothing has
 * changed.
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
  /** Ends when no compaction is under way. */
  #compaction: Promise<void> | undefined;
  /** Calls run one after another. This resolves when the last one has ended. */
  #last: Promise<unknown> = Promise.resolve();
  /** Ids of confirmed answers that are not on disk yet; the next write includes them. */
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

  /**
   * Opens the journal. Damage is not an error, but is reported in the result.
   *
   * @throws AgentError DISK_FULL, DISK_FAULT or PERMISSION_DENIED if the directory or the file cannot be read or
   *   written
   */
  open(): Promise<OpenReport> {
    return this.#inTurn(async () => {
      if (this.#state !== undefined) throw new AgentError('INTERNAL', 'The journal is already open');
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

  /** Writes what is still waiting and closes the file. Does nothing if the journal is not open. */
  async close(): Promise<void> {
    await this.#compaction;
    await this.#inTurn(async () => {
      if (this.#state === undefined) return;
      await this.#saveConfirmed();
      clearTimeout(this.#confirmTimer);
      this.#confirmTimer = undefined;
      this.#state = undefined;
      await this.#log.close();
    });
  }

  /** @throws AgentError STATE_LOST when the file does not exist any more, since further writes would be lost */
  async assertThere(): Promise<void> {
    if (await this.#files.exists(this.#path)) return;
    throw new AgentError(
      'STATE_LOST',
      `The journal ${this.#path} was removed while the agent was running, so the agent ends; the next one starts a new journal`,
    );
  }

  /**
   * Made once, with the first journal, and also stored next to it. Distinguishes two agents with the same host name.
   */
  get instanceId(): string {
    return this.#opened.instanceId;
  }

  /** Null means not known, which is different from empty. */
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

  /** Why deltas are refused until the next deploy; undefined when they are accepted. */
  get awaitingDeploy(): string | undefined {
    return this.#opened.awaitingDeploy;
  }

  /** What is known about a command; undefined if it is new, or was finished so long ago that it is forgotten. */
  find(key: CommandKey): CommandRecord | undefined {
    return this.#opened.find(key);
  }

  /** Whether a command was begun and not finished: the agent died during it, or is working on it. */
  get unfinished(): boolean {
    return this.#opened.unfinished;
  }

  /** Answers that are not confirmed yet, oldest first. */
  pending(): readonly StoredAnswer[] {
    return this.#opened.pending();
  }

  /**
   * Records that a command is about to take effect.
   *
   * @returns how many times it was begun without being finished, including this time
   * @throws AgentError INTERNAL for a finished command; DISK_FULL, DISK_FAULT or PERMISSION_DENIED if the write fails
   */
  begin(key: CommandKey, verb: string): Promise<number> {
    return this.#inTurn(async () => {
      const status = this.#opened.find(key)?.status;
      if (status !== undefined) {
        throw new AgentError('INTERNAL', `Command ${key.id} is already answered (${status}) and cannot begin again`);
      }
      await this.#write({ op: 'begin', key, verb });
      return this.#opened.find(key)?.attempts ?? 1;
    });
  }

  /**
   * Records that the last attempt did not crash the agent, so it no longer counts. Does nothing for a finished command.
   */
  takeBack(key: CommandKey): Promise<void> {
    return this.#inTurn(() => this.#write({ op: 'take-back', key }));
  }

  /** Records the outcome of a command, all its changes and the answer to send, in one write. */
  finish(entry: Finish): Promise<void> {
    return this.finishMany([entry]);
  }

  /** The same for many commands: all of them or none. If a command occurs twice, the later entry counts. */
  async finishMany(entries: readonly Finish[]): Promise<void> {
    if (entries.length === 0) return;
    await this.#inTurn(() => this.#write({ op: 'finish', entries: withoutKnown(entries, this.#opened.desired) }));
  }

  setDesired(desired: DesiredState): Promise<void> {
    return this.#inTurn(() => this.#write({ op: 'desired', desired }));
  }

  /** @param reason a clause for the refusals of deltas, until a deploy clears it */
  awaitDeploy(reason: string): Promise<void> {
    return this.#inTurn(() => this.#write({ op: 'await-deploy', reason }));
  }

  /** After a rewind: the stream continues here, although it was further before. */
  moveStream(mark: Omit<StreamMark, 'storedAt'> & Partial<StreamMark>): Promise<void> {
    return this.#inTurn(() => this.#write({ op: 'move-stream', stream: { storedAt: '', ...mark } }));
  }

  /**
   * Records that an answer is stored in its stream. This goes to disk with the next write or shortly after. After a
   * crash before that, the answer is sent again, and the stream drops the duplicate by its id. Unknown ids are ignored.
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
      const reason = messageOf(error);
      // The time alone is not unique: an agent that is restarted at once finds the same damage again.
      const path = `${this.#path}.damaged-${new Date().toISOString()}-${randomUUID().slice(0, 4)}`;
      await this.#log.keepAs(path);
      await this.#beginEmpty();
      this.#logger?.error(
        { path, reason },
        'journal is damaged; it is kept under another name and replaced by an empty one',
      );
      return { fresh: false, damaged: { path, reason }, truncatedTail: false };
    }
    await this.#log.resume(lines);
    this.#state = state;
    this.#compactAt = this.#limitOfGrowth();
    if (lines.torn)
      this.#logger?.warn({ length: lines.length }, 'last write to the journal was incomplete and is removed');
    return { fresh: false, truncatedTail: lines.torn };
  }

  async #beginEmpty(): Promise<void> {
    const instanceId = (await keptInstanceId(this.#dir, this.#files)) ?? randomUUID();
    const state = new JournalState(instanceId, this.#limits);
    await this.#log.replace(state.snapshot());
    this.#state = state;
    this.#compactAt = this.#limitOfGrowth();
  }

  /** Writes one line with the records and the waiting confirmations, then updates the state. */
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
    if (this.#log.length > this.#compactAt) this.#compactSoon();
  }

  async #saveConfirmed(): Promise<void> {
    if (this.#confirmed.length === 0 || this.#state === undefined) return;
    try {
      await this.#write();
    } catch (error) {
      this.#logger?.warn({ err: error }, 'confirmations of answers could not be written; the next write includes them');
    }
  }

  /** After the answer that is being written now, and beside further writes: no command waits for the new file. */
  #compactSoon(): void {
    this.#compaction ??= nextTurn()
      .then(() => this.#compact())
      .finally(() => {
        this.#compaction = undefined;
      });
  }

  /** The records are already on disk, so a failure here is only logged. */
  async #compact(): Promise<void> {
    let replaced = Promise.resolve();
    try {
      await this.#inTurn(async () => {
        // It is awaited outside this turn, since it goes on beside the writes.
        if (this.#state !== undefined)
          replaced = this.#log.replace(this.#state.snapshot(), (takeOver) => this.#inTurn(takeOver));
      });
      await replaced;
      this.#compactAt = this.#limitOfGrowth();
    } catch (error) {
      this.#compactAt = this.#log.length * 2;
      this.#logger?.warn({ err: error }, 'journal could not be compacted; it keeps growing for now');
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
    const cause = messageOf(error);
    const { code = 'INTERNAL', advice = 'check the disk' } = machineFaultOf(error) ?? {};
    const message = `The journal ${this.#path} cannot be ${what}: ${cause}; ${advice}`;
    return new AgentError(code, message, { cause: error, transient: true });
  }

  get #path(): string {
    return join(this.#dir, FILE_NAME);
  }

  get #opened(): JournalState {
    if (this.#state === undefined) throw new AgentError('INTERNAL', 'The journal is not open');
    return this.#state;
  }
}

/**
 * Without a desired state that is the known one. It may be hundreds of kilobytes long, and most commands of a controller
 * that repeats itself change nothing.
 */
function withoutKnown(entries: readonly Finish[], known: DesiredState | null): readonly Finish[] {
  const [changing, ...others] = entries.filter(({ desired }) => desired !== undefined);
  if (changing === undefined || others.length > 0 || !isDeepStrictEqual(changing.desired, known)) return entries;
  const { desired: _known, ...rest } = changing;
  return entries.map((entry) => (entry === changing ? rest : entry));
}

/** Checks records before they are written: a record that cannot be read back would damage the journal. */
function checked(records: readonly JournalRecord[]): readonly JournalRecord[] {
  try {
    return parseRecords(records);
  } catch (error) {
    const cause = messageOf(error);
    throw new AgentError('INTERNAL', `A record for the journal is invalid: ${cause}`, {
      cause: error,
    });
  }
}
