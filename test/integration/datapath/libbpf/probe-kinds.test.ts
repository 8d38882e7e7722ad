import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { mapPin } from '../../../../src/domain/pins.js';
import { variantsOf } from '../../../../src/domain/probe.js';
import { command, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discardProbes, loadProbes, probesAt, probesRequest } from '../../../contract/probes.js';
import { refused } from '../../../contract/samples.js';
import { compileObject } from '../../../support/compile.js';

/* Which kinds of probes are attached, which are refused, and how one of several variants is chosen. */

const RUNS = 7;

let folder: string;
let kernel: KernelFixture;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'l3af-probe-kinds-'));
});
after(() => rmSync(folder, { recursive: true }));
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(() => kernel.close());

async function compiled(source: string, ...options: string[]): Promise<string> {
  const path = join(folder, `${source}.o`);
  await compileObject(source, path, ...options);
  return path;
}

describe('variants of a probe for one event', () => {
  let object: string;
  before(async () => {
    object = await compiled('variants');
  });

  /** How many events each variant has counted while programs were started. Other processes start some, too. */
  async function counted(dir: string): Promise<boolean[]> {
    const at = async (key: number) => {
      const value = await kernel.datapath.readMap(mapPin(dir, 'events'), Buffer.from(Uint32Array.of(key).buffer));
      return Number(Buffer.from(value ?? []).readBigUInt64LE());
    };
    const read = () => Promise.all([0, 1, 2].map(at));
    const former = await read();
    for (let run = 0; run < RUNS; run += 1) await command('true');
    return (await read()).map((value, index) => value - former[index]! >= RUNS);
  }

  for (const [index, entryFunction] of ['by_btf', 'by_raw', 'by_tracepoint'].entries()) {
    it(`is ${entryFunction} alone if that is named`, async () => {
      const dir = await loadProbes(kernel, object, { entryFunction });
      assert.deepEqual(
        (await probesAt(kernel, dir)).probes.map((probe) => probe.function),
        [entryFunction],
      );
      assert.deepEqual(
        await counted(dir),
        [0, 1, 2].map((other) => other === index),
      );
      await discardProbes(kernel, dir);
    });
  }

  it('are all attached if none is named, and told', async () => {
    const request = probesRequest(kernel, object);
    const { probes } = await kernel.datapath.loadProbes(request);
    assert.deepEqual(
      variantsOf(probes).map((group) => group.map(({ name }) => name)),
      [['by_btf', 'by_raw', 'by_tracepoint']],
    );

    const { dir } = request;
    assert.deepEqual(await counted(dir), [true, true, true]);
    await discardProbes(kernel, dir);
  });
});

describe('a program that the agent cannot attach', () => {
  const PLACE = `tp/${'_'.repeat(40)}`;
  let object: Buffer;
  before(async () => {
    object = readFileSync(await compiled('any_section', `-DSECTION="${PLACE}"`));
  });

  for (const section of [
    ...['ksyscall/close', 'kretsyscall/close', 'usdt', 'usdt//bin/sh:a:b', 'perf_event', 'kprobe.multi/do_*'],
    ...['kretprobe.multi/do_*', 'uprobe.multi//bin/sh:main', 'uprobe.s//bin/sh:main', 'iter/task', 'iter.s/bpf_map'],
    ...['lsm/file_open', 'lsm.s/file_open', 'lsm_cgroup/socket_bind', 'sockops', 'sk_msg', 'sk_skb/stream_parser'],
    ...['cgroup/connect4', 'cgroup/sysctl', 'lwt_in', 'lirc_mode2', 'flow_dissector', 'syscall', 'socket'],
    ...['fentry.s/tcp_connect', 'fmod_ret/do_exit', 'freplace/x', 'raw_tp.w/nbd_send', 'netfilter'],
  ]) {
    it(`is refused by name among probes: ${section}`, async () => {
      const path = join(folder, 'other.o');
      const bytes = Buffer.from(object);
      const name = Buffer.alloc(PLACE.length);
      name.write(section);
      for (let at = bytes.indexOf(PLACE); at !== -1; at = bytes.indexOf(PLACE, at + 1)) name.copy(bytes, at);
      writeFileSync(path, bytes);

      await refused(
        kernel.datapath.loadProbes(probesRequest(kernel, path)),
        'OBJECT_INVALID',
        `The agent cannot attach any_section (${section})`,
        'The kinds of probes are tracepoint, raw_tp, tp_btf',
      );
    });
  }
});
