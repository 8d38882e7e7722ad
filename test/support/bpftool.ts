import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { endianness, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type MountedBpffs, mountBpffs } from './testbed.js';
import { run } from './tool.js';

/*
 * Programs in the kernel through bpftool, which shares no code with the agent: for tests of the programs themselves,
 * and to verify independently what the agent has done.
 */

/** As in bpftool's output; other fields are left out. Sizes in bytes. */
export interface ShownMap {
  readonly id: number;
  readonly type: string;
  readonly bytes_key: number;
  readonly bytes_value: number;
  readonly max_entries: number;
}

export interface ShownProgram {
  readonly id: number;
  readonly type: string;
  readonly name: string;
}

export interface Fed {
  /** Of the last repetition, as an unsigned 32-bit number. */
  readonly retval: number;
  /** The packet as the program left it. */
  readonly out: Buffer;
}

export type MapEntry = { readonly key: number; readonly value: number };

/** A bpffs of our own. What is still pinned is removed with it. */
export class PrivateBpffs {
  #mounted: MountedBpffs | undefined;
  #objects = 0;

  async mount(): Promise<void> {
    this.#mounted = await mountBpffs();
  }

  async unmount(): Promise<void> {
    await this.#mounted?.unmount();
  }

  /**
   * Loads all programs of an object and pins them and all its maps.
   *
   * @throws ExecFileException whose output contains the verifier's log
   */
  async load(objectPath: string, type: 'xdp' | 'classifier' | 'tracepoint' | 'cgroup/skb'): Promise<LoadedObject> {
    this.#objects += 1;
    if (this.#mounted === undefined) throw new Error('Not mounted');
    const dir = join(this.#mounted.path, String(this.#objects));
    const loaded = new LoadedObject(dir);
    await mkdir(join(dir, 'programs'), { recursive: true });
    await mkdir(join(dir, 'maps'));
    // Not with --json: then bpftool suppresses libbpf's messages, and with them the verifier's log.
    await run('bpftool', [
      'prog',
      'loadall',
      objectPath,
      loaded.programPin(''),
      'type',
      type,
      'pinmaps',
      loaded.mapPin(''),
    ]);
    return loaded;
  }
}

/** One object in the kernel. */
export class LoadedObject {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  programPin(name: string): string {
    return join(this.#dir, 'programs', name);
  }

  mapPin(name: string): string {
    return join(this.#dir, 'maps', name);
  }

  /** Names of the pinned programs, sorted. */
  async programs(): Promise<string[]> {
    return (await readdir(this.programPin(''))).toSorted();
  }

  /** Names of the pinned maps, sorted. */
  async maps(): Promise<string[]> {
    return (await readdir(this.mapPin(''))).toSorted();
  }

  showProgram(name: string): Promise<ShownProgram> {
    return bpftool('prog', 'show', 'pinned', this.programPin(name));
  }

  showMap(name: string): Promise<ShownMap> {
    return bpftool('map', 'show', 'pinned', this.mapPin(name));
  }

  /** The number under key 0 of an array map. */
  async counter(map: string): Promise<number> {
    const { formatted } = await bpftool<{ formatted: MapEntry }>(
      ...['map', 'lookup', 'pinned', this.mapPin(map), 'key', ...hex(u32(0))],
    );
    return formatted.value;
  }

  /** All entries of a map of numbers, in no order. */
  async entries(map: string): Promise<MapEntry[]> {
    const dump = await bpftool<{ formatted: MapEntry }[]>('map', 'dump', 'pinned', this.mapPin(map));
    return dump.map(({ formatted }) => formatted);
  }

  async write(map: string, key: Uint8Array, value: Uint8Array): Promise<void> {
    await bpftool('map', 'update', 'pinned', this.mapPin(map), 'key', ...hex(key), 'value', ...hex(value));
  }

  /** Sets the next program: key 0 of the slot. */
  async link(slot: string, programPin: string): Promise<void> {
    await bpftool('map', 'update', 'pinned', this.mapPin(slot), 'key', ...hex(u32(0)), 'value', 'pinned', programPin);
  }

  /** Runs a program on a frame (BPF_PROG_TEST_RUN). Without a name: the object's only program. */
  async feed(frame: Uint8Array, options: { program?: string; repeat?: number } = {}): Promise<Fed> {
    const program = options.program ?? (await this.programs())[0] ?? '';
    const dir = await mkdtemp(join(tmpdir(), 'l3af-feed-'));
    try {
      const input = join(dir, 'in');
      const output = join(dir, 'out');
      await writeFile(input, frame);
      const { retval } = await bpftool<{ retval: number }>(
        ...['prog', 'run', 'pinned', this.programPin(program), 'repeat', String(options.repeat ?? 1)],
        ...['data_in', input, 'data_out', output],
      );
      return { retval: retval >>> 0, out: await readFile(output) };
    } finally {
      await rm(dir, { recursive: true });
    }
  }

  /** Removes all pins; programs and maps end with their last user. */
  async unload(): Promise<void> {
    await rm(this.#dir, { recursive: true });
  }
}

async function bpftool<Answer>(...args: readonly string[]): Promise<Answer> {
  const { stdout } = await run('bpftool', ['--json', ...args]);
  return JSON.parse(stdout) as Answer;
}

function hex(bytes: Uint8Array): string[] {
  return ['hex', ...Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'))];
}

/** Numbers as the kernel keeps them in maps: in host order. */
export function u8(value: number): Uint8Array {
  return Uint8Array.of(value);
}

export function u16(value: number): Uint8Array {
  return hostOrder(value, 2);
}

export function u32(value: number): Uint8Array {
  return hostOrder(value, 4);
}

export function u64(value: number): Uint8Array {
  return hostOrder(value, 8);
}

function hostOrder(value: number, size: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  const sized = bytes.subarray(0, size);
  return endianness() === 'LE' ? sized : sized.reverse();
}
