import { styleText } from 'node:util';
import { whyNotCreated } from '../bus/absence.js';
import { type Bus, connectBus } from '../bus/connect.js';
import { findServer } from '../bus/embedded-config.js';
import { inWords, isDenied, isNoResponders, isNotFound } from '../bus/nats-errors.js';
import { continued } from '../bus/refusals.js';
import type { Config } from '../config.js';
import { messageOf } from '../errors.js';
import { STREAMS } from '../messages/subjects.js';
import { busOptions } from './bus-link.js';

/** One thing that a machine can or cannot do, and why. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly reason: string;
}

const BROKER_TIMEOUT_MS = 3_000;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** Whether the configured broker answers, and has JetStream. If none is configured: whether an embedded one could be started. */
export async function probeBroker(config: Config): Promise<Finding> {
  const name = 'broker';
  try {
    if (config.natsUrl === undefined) {
      return {
        name,
        ok: true,
        reason: `none configured; the agent would start an embedded one, ${await findServer()}`,
      };
    }
    const signal = AbortSignal.timeout(BROKER_TIMEOUT_MS);
    const bus = await connectBus(busOptions(config, config.natsUrl, signal), SILENT);
    try {
      const trouble = await jetStreamTrouble(bus);
      const where = `${bus.nc.getServer()}, nats-server ${bus.nc.info?.version}`;
      return {
        name,
        ok: trouble === undefined,
        reason: trouble === undefined ? where : `${where}: ${continued(trouble)}`,
      };
    } finally {
      await bus.close();
    }
  } catch (error) {
    return { name, ok: false, reason: messageOf(error) };
  }
}

/** Why the agent could not store anything there, as far as that can be told without storing something. */
async function jetStreamTrouble({ jsm, connection }: Bus): Promise<string | undefined> {
  try {
    await connection.guard(jsm.streams.info(STREAMS.commands));
    return undefined;
  } catch (error) {
    if (isDenied(error)) return undefined;
    // A stream that is absent will be created, if it can be.
    if (isNotFound(error)) return (await whyNotCreated(jsm, STREAMS.commands))?.message;
    return messageOf(inWords(error, isNoResponders(error) ? {} : { stream: STREAMS.commands }));
  }
}

/** A table for people, with colours if the terminal shows them. */
export function renderProbes(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  return findings
    .map(({ name, ok, reason }) => {
      const mark = styleText(ok ? 'green' : 'red', ok ? 'yes' : 'no ', { stream: process.stdout });
      return `${name.padEnd(width)}  ${mark}  ${reason}`.trimEnd().concat('\n');
    })
    .join('');
}
