import { styleText } from 'node:util';
import { connectBus } from '../bus/connect.js';
import { findServer } from '../bus/embedded-config.js';
import type { Config } from '../config.js';
import { busOptions } from './bus-link.js';

/** One thing that a machine can do or not, and why. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly reason: string;
}

const BROKER_TIMEOUT_MS = 3_000;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** Whether the configured broker answers, or where none is configured, whether one of our own could be started. */
export async function probeBroker(config: Config): Promise<Finding> {
  const name = 'broker';
  try {
    if (config.natsUrl === undefined) {
      return { name, ok: true, reason: `none configured; an embedded one would be ${await findServer()}` };
    }
    const signal = AbortSignal.timeout(BROKER_TIMEOUT_MS);
    const bus = await connectBus(busOptions(config, config.natsUrl, signal), SILENT);
    const reason = `${bus.nc.getServer()}, nats-server ${bus.nc.info?.version}`;
    await bus.close();
    return { name, ok: true, reason };
  } catch (error) {
    return { name, ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** A table for people; coloured where the terminal shows colours. */
export function renderProbes(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  return findings
    .map(({ name, ok, reason }) => {
      const mark = styleText(ok ? 'green' : 'red', ok ? 'yes' : 'no ', { stream: process.stdout });
      return `${name.padEnd(width)}  ${mark}  ${reason}`.trimEnd().concat('\n');
    })
    .join('');
}
