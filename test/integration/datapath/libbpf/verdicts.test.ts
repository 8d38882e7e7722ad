import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { command, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discard, KEY_0, type Loaded, load } from '../../../contract/samples.js';
import { compileObject } from '../../../support/compile.js';

/*
 * The table of verdicts in deploy/README.md: what runs after a TC program, by TCX and by a filter, and what becomes of the
 * packet.
 */

const VERDICT = { object: 'verdict', entryFunction: 'tc_verdict', slotMap: '' };
const PACKETS = 20;
const PORT = 9000;

const [OK, RECLASSIFY, SHOT, PIPE, STOLEN, QUEUED, TRAP, UNSPEC] = [0, 1, 2, 3, 4, 5, 8, -1];

interface Fate {
  /** Whether the TCX program behind the first one runs, a filter behind both, and whether the packet arrives. */
  readonly next: boolean;
  readonly filter: boolean;
  readonly arrives: boolean;
}

const AT_TCX: readonly { readonly verdict: number; readonly fate: Fate }[] = [
  { verdict: UNSPEC!, fate: { next: true, filter: true, arrives: true } },
  { verdict: OK!, fate: { next: false, filter: false, arrives: true } },
  { verdict: SHOT!, fate: { next: false, filter: false, arrives: false } },
  ...[STOLEN!, TRAP!, RECLASSIFY!, PIPE!, QUEUED!, 77].map((verdict) => ({
    verdict,
    fate: { next: false, filter: true, arrives: true },
  })),
];

const IN_A_FILTER: readonly { readonly verdict: number; readonly fate: Pick<Fate, 'filter' | 'arrives'> }[] = [
  ...[UNSPEC!, RECLASSIFY!, PIPE!, QUEUED!, 77].map((verdict) => ({ verdict, fate: { filter: true, arrives: true } })),
  { verdict: OK!, fate: { filter: false, arrives: true } },
  ...[SHOT!, STOLEN!, TRAP!].map((verdict) => ({ verdict, fate: { filter: false, arrives: false } })),
];

let folder: string;
let objectPath: string;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'l3af-verdict-'));
  objectPath = join(folder, 'verdict.bpf.o');
  await compileObject('verdict', objectPath);
});
after(() => rmSync(folder, { recursive: true }));

for (const tc of ['tcx', 'clsact'] as const) {
  describe(`a verdict of a program that is attached by ${tc}`, () => {
    let kernel: KernelFixture;
    let first: Loaded;
    let second: Loaded | undefined;
    /** Pinned for the filter behind. */
    let filter: Loaded;
    const others: Loaded[] = [];
    const socket = createSocket('udp4');
    let arrived = 0;

    before(async () => {
      kernel = await kernelFixture({ tc });
      socket.on('message', () => {
        arrived += 1;
      });
      socket.bind(PORT, kernel.testbed.address);
      await once(socket, 'listening');
      const loaded = async () => {
        const one = await load(kernel, VERDICT, 'ingress', { objectPath });
        others.push(one);
        await decide(one, UNSPEC!);
        return one;
      };
      [first, filter] = [await loaded(), await loaded()];
      await kernel.datapath.attach(first.hook, first.program, first.link);
      if (tc === 'tcx') {
        second = await loaded();
        const link = `${second.link}-second`;
        await kernel.datapath.attach(second.hook, second.program, link);
        second = { ...second, link };
        await command('tc', 'qdisc', 'add', 'dev', kernel.iface, 'clsact');
      }
      const where = ['dev', kernel.iface, 'ingress', 'prio', '60000', 'bpf', 'da', 'object-pinned', filter.program];
      await command('tc', 'filter', 'add', ...where);
    });

    after(async () => {
      socket.close();
      await command('tc', 'filter', 'delete', 'dev', kernel.iface, 'ingress', 'prio', '60000');
      for (const one of [second, first]) if (one !== undefined) await kernel.datapath.detach(one.hook, one.link);
      for (const one of others) await discard(kernel, one);
      await kernel.close();
    });

    async function decide(loaded: Loaded, verdict: number): Promise<void> {
      const value = Buffer.alloc(4);
      value.writeInt32LE(verdict);
      const set = [{ key: KEY_0.toString('hex'), value: value.toString('hex') }];
      await kernel.datapath.writeMap(loaded.map('verdict'), { set, remove: [] });
    }

    const seen = async (loaded: Loaded) =>
      Number(Buffer.from((await kernel.datapath.readMap(loaded.map('seen'), KEY_0)) ?? []).readBigUInt64LE());

    /** Counts of packets at the program behind, at the filter, and at a socket. */
    async function fateOf(verdict: number): Promise<Fate> {
      await decide(first, verdict);
      const places = [first, second, filter];
      const counts = () => Promise.all(places.map((one) => (one === undefined ? 0 : seen(one))));
      const [, next, behind] = await counts();
      const before = await seen(first);
      arrived = 0;
      await kernel.receive(PACKETS, PORT);
      // The kernel has done with a packet when it has returned to the sender, but the socket tells of it later.
      await kernel.counted(first.map('seen'), before + PACKETS);
      await setTimeout(50);
      const [, nextAfter, behindAfter] = await counts();
      return {
        next: nextAfter! - next! === PACKETS,
        filter: behindAfter! - behind! === PACKETS,
        arrives: arrived === PACKETS,
      };
    }

    for (const { verdict, fate } of tc === 'tcx' ? AT_TCX : IN_A_FILTER) {
      it(`${verdict} has the fate that the table says`, async () => {
        const { next, ...rest } = await fateOf(verdict);
        assert.deepEqual({ ...rest, ...(tc === 'tcx' && { next }) }, fate);
      });
    }
  });
}
