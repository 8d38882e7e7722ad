import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { publicMapPath } from '../../src/domain/pins.js';
import type { Direction } from '../support/directions.js';
import { type GrowingTable, growingTable } from './drawing.js';
import { pinAgain, readNumber } from './kernel.js';
import type { Narrator } from './narrator.js';
import type { KernelStage } from './stage.js';

/** A number in a program's map. */
export interface Counter {
  readonly title: string;
  /** Pin of the map. */
  readonly pin: string;
  readonly key: number;
  readonly keyBytes: number;
}

export interface CounterPlace {
  readonly direction: Direction;
  readonly program: string;
  readonly version: string;
  readonly map: string;
}

/** A counter in an array with one entry, as in the programs of native/bpf. */
export function counter(stage: KernelStage, title: string, place: CounterPlace): Counter {
  const { direction, program: name, version, map } = place;
  const hook = { iface: stage.iface, direction };
  return { title, pin: publicMapPath(stage.kernel.bpffs, { hook, name, version }, map), key: 0, keyBytes: 4 };
}

/** The first program of the XDP chain: all incoming packets. */
export function portCount(stage: KernelStage): Counter {
  const place = { direction: 'xdpingress', program: 'port-count', version: '1.0', map: 'packet_count' } as const;
  return counter(stage, 'port-count', place);
}

/** The same program's packets to one destination port. */
export function portCountOf(stage: KernelStage, port: number): Counter {
  const place = { direction: 'xdpingress', program: 'port-count', version: '1.0', map: 'port_packets' } as const;
  return { ...counter(stage, `to :${port}`, place), key: port, keyBytes: 2 };
}

/** The second program: packets that it has seen, or dropped. */
export function portDrop(stage: KernelStage, version: string, map: 'seen_count' | 'dropped_count'): Counter {
  const title = map === 'seen_count' ? `port-drop ${version}` : 'dropped';
  return counter(stage, title, { direction: 'xdpingress', program: 'port-drop', version, map });
}

/** The last program. */
export function rateLimit(stage: KernelStage): Counter {
  const place = { direction: 'xdpingress', program: 'rate-limit', version: '1.0', map: 'rate_limit_seen' } as const;
  return counter(stage, 'rate-limit', place);
}

/** Packets that have passed XDP and reached TC. */
export function tcCount(stage: KernelStage): Counter {
  return counter(stage, 'tc-count', { direction: 'ingress', program: 'tc-count', version: '1.0', map: 'tc_packets' });
}

/** The same counter, which stays readable after its program is removed. */
export async function kept({ kernel }: KernelStage, { pin, ...rest }: Counter): Promise<Counter> {
  const keepsake = join(kernel.keepsakes, rest.title.replaceAll(/\W/g, '_'));
  await pinAgain(pin, keepsake);
  return { ...rest, pin: keepsake };
}

/** Shows how counts grow while packets flow. Each count starts at 0. */
export class Watch {
  readonly #counters: readonly Counter[];
  readonly #tell: Narrator;
  readonly #table: GrowingTable;
  #base: readonly (number | undefined)[] = [];
  #began = 0;

  constructor(counters: readonly Counter[], tell: Narrator) {
    this.#counters = counters;
    this.#tell = tell;
    this.#table = growingTable(['', ...counters.map(({ title }) => title)], tell.style);
  }

  async start(): Promise<void> {
    this.#base = await this.#read();
    this.#began = performance.now();
    this.#tell.lines([this.#table.head]);
  }

  /** Shows a row after each interval. */
  async rows(number: number, intervalMs = 500): Promise<void> {
    for (let row = 0; row < number; row++) {
      await sleep(intervalMs);
      const seconds = (performance.now() - this.#began) / 1000;
      this.#tell.lines([this.#table.row([`${seconds.toFixed(1)} s`, ...(await this.counts())])]);
    }
  }

  /** The counts since the start; undefined for a counter that does not exist. */
  async counts(): Promise<(number | undefined)[]> {
    const now = await this.#read();
    return now.map((count, index) => (count === undefined ? undefined : count - (this.#base[index] ?? 0)));
  }

  #read(): Promise<(number | undefined)[]> {
    return Promise.all(this.#counters.map(({ pin, key, keyBytes }) => readNumber(pin, key, keyBytes)));
  }
}
