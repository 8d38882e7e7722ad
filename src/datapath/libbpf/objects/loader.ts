import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Deadline } from '../../../deadline.js';
import type { OtherPrograms } from '../../../domain/probe.js';
import { AgentError, machineError, messageOf } from '../../../errors.js';
import { removeTree } from '../pins/pins.js';
import { type LoadOrder, type LoadResult, revive } from './loader-protocol.js';

/** How long the process waits for the next object before it ends. It takes about 40 MiB of memory. */
const IDLE_MS = 10_000;
/** How long libbpf and the verifier may take. The verifier gives up after a million instructions, which takes seconds. */
const LOAD_LIMIT_MS = 120_000;
/** How much of what the process has written to stderr an error carries: the end of it, in characters. */
const LAST_WORDS = 2_000;

/** What a process ends itself by when its memory is corrupt or it follows a wrong pointer. */
const CRASHES: ReadonlySet<string> = new Set(['SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGILL', 'SIGFPE', 'SIGTRAP']);

/**
 * Opens and loads objects in a process of its own. The agent has not made the objects, and some crash libbpf: there a
 * crash is an answer (OBJECT_INVALID), and the agent goes on.
 *
 * The process starts with the first object and ends after {@link IDLE_MS} without one. It ends with the agent, however
 * the agent ends.
 */
export class ObjectLoader {
  #process: LoaderProcess | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #idle: NodeJS.Timeout | undefined;

  /**
   * Loads one object after the other.
   *
   * @returns what `Datapath.load` and `Datapath.loadProbes` do
   * @throws AgentError as `Datapath.load` and `Datapath.loadProbes` do; OBJECT_INVALID if the process crashes, or does
   *   not end within {@link LOAD_LIMIT_MS}; LOAD_FAILED (transient) if somebody has killed it
   */
  load(order: LoadOrder): Promise<OtherPrograms> {
    const loading = this.#last.then(() => this.#load(order));
    this.#last = loading.catch(() => {});
    return loading;
  }

  async #load(order: LoadOrder): Promise<OtherPrograms> {
    clearTimeout(this.#idle);
    // Somebody may have killed it while it was idle.
    const loader = this.#process?.isReady === true ? this.#process : new LoaderProcess();
    this.#process = loader;
    try {
      return await loader.run(order);
    } catch (error) {
      // What has ended in the middle has left what it had pinned.
      if (!loader.isAlive) removeTree(order.request.dir, order.bpffs);
      throw error;
    } finally {
      if (!loader.isAlive) this.#process = undefined;
      else this.#idle = setTimeout(() => this.#end(), IDLE_MS).unref();
    }
  }

  #end(): void {
    this.#process?.end();
    this.#process = undefined;
  }
}

/** One process, until it ends for whatever reason. It does not keep the agent's process running while it is idle. */
class LoaderProcess {
  readonly #child: ChildProcess;
  readonly #pipes: readonly Socket[];
  readonly #ended: Promise<LoaderEnd>;
  #isAlive = true;
  #doing = '';
  #lastWords = '';

  constructor() {
    const script = new URL('./loader-process.js', import.meta.url);
    // "advanced" carries bigints. What libbpf does is told on a pipe, since a crash loses messages that are still queued.
    this.#child = fork(script, { serialization: 'advanced', stdio: ['ignore', 'ignore', 'pipe', 'ipc', 'pipe'] });
    this.#ended = this.#untilEnd();
    // Without a process there may be no pipes either: with too many open files, spawn() gives up before it makes them.
    const [, , errors, , progress] = (this.#child.stdio ?? []) as unknown as readonly (Socket | undefined)[];
    errors?.setEncoding('utf8').on('data', (text: string) => {
      this.#lastWords = (this.#lastWords + text).slice(-LAST_WORDS);
    });
    progress?.setEncoding('utf8').on('data', (text: string) => {
      this.#doing = text.trimEnd().split('\n').at(-1) ?? '';
    });
    this.#pipes = [errors, progress].filter((pipe) => pipe !== undefined);
    this.#rest();
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Whether it can be given an object. */
  get isReady(): boolean {
    const { exitCode, signalCode, connected } = this.#child;
    return exitCode === null && signalCode === null && connected;
  }

  async run(order: LoadOrder): Promise<OtherPrograms> {
    // Without a process, there is nothing to send to.
    if (this.#child.pid === undefined) throw this.#failure(await this.#ended, false);
    this.#stayUp();
    this.#doing = '';
    using limit = new Deadline(LOAD_LIMIT_MS);
    limit.signal.addEventListener('abort', () => this.#child.kill('SIGKILL'));
    try {
      const answered = once(this.#child, 'message', { signal: limit.signal }) as Promise<[LoadResult]>;
      this.#child.send(order, () => {});
      const result = await Promise.race([answered.then(([said]) => said), this.#ended]);
      if ('isEnd' in result) throw this.#failure(result, limit.isOver);
      if ('error' in result) throw revive(result.error);
      return result;
    } catch (error) {
      if (!limit.isOver) throw error;
      throw this.#failure(await this.#ended, true);
    } finally {
      this.#rest();
    }
  }

  /** The process ends when it notices. */
  end(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  /** Keeps the event loop of the agent running until there is an answer. */
  #stayUp(): void {
    for (const handle of this.#handles()) handle.ref();
  }

  #rest(): void {
    for (const handle of this.#handles()) handle.unref();
  }

  #handles(): readonly { ref(): unknown; unref(): unknown }[] {
    const { channel } = this.#child;
    return [this.#child, ...this.#pipes, ...(channel ? [channel] : [])];
  }

  /** Not the event "close" of the child, which does not come after a disconnect(). */
  #untilEnd(): Promise<LoaderEnd> {
    return new Promise((resolve) => {
      const end = (how: Omit<LoaderEnd, 'isEnd'>) => {
        this.#isAlive = false;
        resolve({ isEnd: true, ...how });
      };
      this.#child.once('exit', (status, signal) => {
        // Until both pipes have given all that was written to them.
        void Promise.all(this.#pipes.map((pipe) => pipe.closed || once(pipe, 'close'))).then(() =>
          end({ status, signal }),
        );
      });
      this.#child.on('error', (error) => {
        // Without a process there is no "exit".
        if (this.#child.pid === undefined) end({ status: null, signal: null, error });
      });
    });
  }

  #failure({ status, signal, error }: LoaderEnd, isOverdue: boolean): AgentError {
    if (error !== undefined) {
      const message = `The process that loads objects cannot be started: ${messageOf(error)}`;
      return machineError(error) ?? new AgentError('LOAD_FAILED', message, { cause: error, transient: true });
    }
    const doing = this.#doing === '' ? 'preparing to load the object' : this.#doing;
    const detail = this.#lastWords.trim();
    const options = detail === '' ? {} : { detail };
    if (isOverdue) {
      const message = `libbpf has not finished ${doing} within ${LOAD_LIMIT_MS / 1000} s; the object cannot be loaded`;
      return new AgentError('OBJECT_INVALID', message, options);
    }
    if (signal !== null && CRASHES.has(signal)) {
      const message = `libbpf crashed (${signal}) while it was ${doing}; the object cannot be loaded with libbpf of this machine`;
      return new AgentError('OBJECT_INVALID', message, options);
    }
    const how = signal === null ? `with exit status ${status}` : `by ${signal}`;
    const message = `The process that loads objects was ended ${how} while it was ${doing}`;
    return new AgentError('LOAD_FAILED', message, { ...options, transient: true });
  }
}

interface LoaderEnd {
  readonly isEnd: true;
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it could not be started. */
  readonly error?: Error;
}
