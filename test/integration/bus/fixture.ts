import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { headers } from 'nats';
import type { CommandStream } from '../../../src/bus/command-stream.js';
import { type Bus, connectBus } from '../../../src/bus/connect.js';
import type { BusLogger } from '../../../src/bus/logger.js';
import { ensureStreams } from '../../../src/bus/streams.js';
import { messageOf } from '../../../src/errors.js';
import { type Subjects, subjectsFor } from '../../../src/messages/subjects.js';
import { startNats, type TestServer, type TestServerOptions } from '../../support/nats.js';
import { createStreams } from '../../support/streams.js';
import { SLOWNESS, until, untilGiven } from '../../support/until.js';

export interface LogLine {
  readonly level: keyof BusLogger;
  readonly fields: object;
  readonly message: string;
}

export interface CollectedLog extends BusLogger {
  readonly lines: readonly LogLine[];
  /** How often a message was logged. */
  count(message: string): number;
}

export function collectLog(): CollectedLog {
  const lines: LogLine[] = [];
  const at = (level: keyof BusLogger) => (fields: object, message: string) => {
    lines.push({ level, fields, message });
  };
  return {
    lines,
    count: (message) => lines.filter((line) => line.message === message).length,
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
  };
}

export const HOST = 'web1';

const cleanups = new WeakMap<TestContext, (() => unknown)[]>();

/** Cleans up after a test, in reverse order. `t.after` runs in order, which would end servers before their clients. */
export function atEnd(t: TestContext, cleanup: () => unknown): void {
  const known = cleanups.get(t);
  if (known !== undefined) {
    known.push(cleanup);
    return;
  }
  const own = [cleanup];
  cleanups.set(t, own);
  t.after(async () => {
    for (const next of own.reverse()) await next();
  });
}

export interface Given {
  readonly server: TestServer;
  readonly bus: Bus;
  /** A controller's own connection. */
  readonly controller: Controller;
  readonly subjects: Subjects;
  readonly log: CollectedLog;
}

/**
 * A server with the agent's streams, and one connection each for the agent and the controller. All are removed after
 * the test.
 */
export async function givenBus(t: TestContext, options: TestServerOptions = {}): Promise<Given> {
  const server = await startNats(options);
  atEnd(t, () => server.stop());
  const log = collectLog();
  const bus = await openBus(t, server, log);
  const subjects = subjectsFor('l3af', HOST);
  await createStreams(bus, subjects, server.members.length);
  await untilGiven('the streams', () => ensureStreams(bus, subjects, log));
  const controller = new Controller(await openBus(t, server, collectLog()), subjects);
  return { server, bus, controller, subjects, log };
}

export async function openBus(t: TestContext, { url }: { url: string }, log: BusLogger, host = HOST): Promise<Bus> {
  const bus = await connectBus({ servers: [url], name: `test ${host}`, signal: AbortSignal.timeout(PATIENCE_MS) }, log);
  atEnd(t, () => bus.close());
  return bus;
}

/** Starts a killed server again, and waits until the agent's connection is restored. */
export async function backAgain({ server, bus }: Pick<Given, 'server' | 'bus'>): Promise<void> {
  await until('the loss of the connection', () => !bus.connection.connected);
  await server.restart();
  await until('the connection', () => bus.connection.connected);
}

/** Kills the server to which the agent is connected, and starts it again. Of a cluster the others go on. */
export async function strike({ server, bus }: Pick<Given, 'server' | 'bus'>): Promise<void> {
  await until('the connection', () => bus.connection.connected);
  const victim = server.memberAt(bus.nc.getServer());
  const { session } = bus.connection;
  await victim.kill('SIGKILL');
  await until('the loss of the connection', () => session.aborted);
  await victim.restart();
}

/** Waits until the server knows that the host has answered everything up to a sequence. */
export async function untilAnswered(commands: CommandStream, seq: number): Promise<void> {
  let last: unknown;
  const ask = async () => {
    const position = await commands.position().catch((error: unknown) => {
      last = error;
    });
    last = position ?? last;
    return (position?.consumerFloor ?? 0) >= seq;
  };
  await until(`the answers up to ${seq}`, ask).catch((error: unknown) => {
    throw new Error(`${messageOf(error)}; last: ${inspect(last)}`, { cause: error });
  });
}

/** Sends commands, like the controller of a fleet. */
export class Controller {
  readonly bus: Bus;
  readonly #subjects: Subjects;

  constructor(bus: Bus, subjects: Subjects) {
    this.bus = bus;
    this.#subjects = subjects;
  }

  /** @returns the sequence of the command */
  async send(verb: string, body: string, extra: Readonly<Record<string, string>> = {}): Promise<number> {
    const messageHeaders = headers();
    for (const [name, value] of Object.entries(extra)) messageHeaders.set(name, value);
    const { js, connection } = this.bus;
    for (let attempt = 0; ; attempt++) {
      try {
        const published = js.publish(this.#subjects.command(verb), body, { headers: messageHeaders });
        return (await connection.guard(published)).seq;
      } catch (error) {
        // Sent while the server was down.
        if (attempt > ATTEMPTS) throw error;
        await connection.untilConnected(AbortSignal.timeout(PATIENCE_MS));
        await sleep(20);
      }
    }
  }
}

const PATIENCE_MS = 20_000 * SLOWNESS;
/** In a cluster a stream has no leader for some seconds. */
const ATTEMPTS = SLOWNESS === 1 ? 20 : 1_000;

export function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
