import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { discard } from '../../src/datapath/libbpf/objects/discard.js';
import { loadProgram } from '../../src/datapath/libbpf/objects/load.js';
import { loadDir } from '../../src/domain/pins.js';
import { AgentError } from '../../src/errors.js';
import { damagedObjects } from './damaged-objects.js';

/*
 * A process in which libbpf opens and the kernel loads damaged objects. Arguments: bpffs, seed, count, how many of
 * these to skip. It prints the number of each, so that its parent knows which one crashed it. It exits with 1 at the
 * first error that is not an AgentError.
 */

const [bpffs = '', seed, count, skip] = process.argv.slice(2);

/** A program of each object. */
const ENTRY: Readonly<Record<string, string>> = {
  broken: 'xdp_broken',
  dscp_mark: 'tc_dscp_mark',
  exec_count: 'count_exec',
  policy: 'xdp_policy',
  port_count: 'xdp_port_count',
  port_drop: 'xdp_port_drop',
  port_drop_v2: 'xdp_port_drop',
  rate_limit: 'xdp_rate_limit',
  tc_mark_pair: 'tc_mark',
  tc_root: 'tc_ingress_root',
  xdp_mark_pair: 'xdp_mark',
};

const objectPath = join(tmpdir(), `l3af-damaged-${process.pid}.bpf.o`);
const tally = new Map<string, number>();
let index = 0;
for (const { what, bytes, object } of damagedObjects(Number(seed), Number(count))) {
  index += 1;
  if (index <= Number(skip)) continue;
  console.log(`at ${index} ${what}`);
  writeFileSync(objectPath, bytes);
  const direction = object.startsWith('tc_') || object === 'dscp_mark' ? 'ingress' : 'xdpingress';
  const hook = { iface: 'l3none0', direction } as const;
  const dir = loadDir(bpffs, { hook, name: object, version: '1.0', digest: '0123456789abcdef', serial: index });
  const entryFunction = ENTRY[object] ?? object;
  try {
    const request = {
      hook,
      dir,
      objectPath,
      entryFunction,
      slotMap: '',
      share: [],
      fill: [],
      probes: 'leave',
    } as const;
    await loadProgram(request, { bpffs, maxMapBytes: 2 ** 30, report: () => {} });
    discard(dir, bpffs);
    note('loaded');
  } catch (error) {
    if (!(error instanceof AgentError)) {
      console.log(`fault ${error instanceof Error ? error.stack : error}`);
      process.exitCode = 1;
      break;
    }
    note(error.code);
    console.log(`  ${error.code} ${error.message}`);
  }
}
rmSync(objectPath, { force: true });
console.log(`end ${JSON.stringify(Object.fromEntries(tally))}`);

function note(outcome: string): void {
  tally.set(outcome, (tally.get(outcome) ?? 0) + 1);
}
