import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LibbpfDatapath } from '../../src/datapath/libbpf/datapath.js';
import { generationDir } from '../../src/domain/pins.js';
import { AgentError } from '../../src/errors.js';
import { damagedObjects } from './damaged-objects.js';

/*
 * A process that has libbpf open and the kernel load damaged objects: bpffs, seed, how many, how many of these to pass over. It says which
 * one it is at, so that whoever started it knows which one it died of, and ends with 1 at the first fault that is no AgentError.
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

const datapath = new LibbpfDatapath({ bpffs });
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
  const dir = generationDir(bpffs, { hook, name: object, version: '1.0', digest: '0123456789abcdef', serial: index });
  const entryFunction = ENTRY[object] ?? object;
  try {
    await datapath.load({ hook, dir, objectPath, entryFunction, slotMap: '', share: [], fill: [], probes: 'leave' });
    await datapath.discard(dir);
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
