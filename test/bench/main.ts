import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FleetClient } from '../../src/client/fleet-client.js';
import { AgentProcess } from '../support/agent-process.js';
import { buildRepository, payloadProgram, standardPackages } from '../support/packages.js';
import { createTestbed, mountBpffs } from '../support/testbed.js';
import { linesPerFolder } from './lines.js';
import { readingCost } from './readings.js';

/*
 * `npm run bench` measures how long a command takes from publish to acknowledgement, as a controller sees it: with a
 * real broker, a real kernel, and the answer stored in its stream. It has no pass or fail, since machines differ.
 */

const HOST = 'bench';
const ROUNDS = 100;
const WARM_UP = 5;

type Programs = ReturnType<typeof payloadProgram>[];

interface Case {
  readonly name: string;
  /** The chain of a round. */
  readonly chain: (round: number) => Programs;
  /** Whether the host is emptied before each round. */
  readonly fromNothing?: boolean;
}

const three = (version = '1.0', port = 7777): Programs => [
  payloadProgram('port-count', { seq_id: 1 }),
  payloadProgram('port-drop', {
    seq_id: 2,
    version,
    map_args: [{ name: 'drop_ports', args: [{ key: port, value: 1 }] }],
  }),
  payloadProgram('rate-limit', { seq_id: 3 }),
];

const CASES: readonly Case[] = [
  { name: 'no change', chain: () => three() },
  { name: 'map_args change', chain: (round) => three('1.0', 7000 + (round % 2)) },
  { name: 'version change of the middle of three', chain: (round) => three(round % 2 === 0 ? '1.0' : '2.0') },
  { name: 'first deploy of three programs', chain: () => three(), fromNothing: true },
];

const dir = await mkdtemp(join(tmpdir(), 'l3af-bench-'));
const [bed, bpffs] = await Promise.all([createTestbed(), mountBpffs()]);
const repository = join(dir, 'repository');
await buildRepository(repository, standardPackages('bookworm'));
const agent = new AgentProcess({
  hostName: HOST,
  stateDir: join(dir, 'state'),
  bpffs: bpffs.path,
  repoUrl: `file://${repository}`,
  platform: 'bookworm',
});
try {
  await agent.start();
  const fleet = await FleetClient.connect({ servers: [agent.natsUrl] });
  const rows = [];
  for (const one of CASES) rows.push(await measure(fleet, one));
  await deploy(fleet, []);
  await fleet.close();
  console.log(`\nFrom publish to acknowledgement, ${ROUNDS} rounds each, in milliseconds\n`);
  console.table(Object.fromEntries(rows));
} finally {
  await agent.dispose();
  await bed.close();
  await bpffs.unmount();
  await rm(dir, { recursive: true });
}
console.log(`Processor time to read 1,000 values of monitored maps: ${(await readingCost()).toFixed(2)} ms\n`);
console.log('Lines of code\n');
console.table(await linesPerFolder());

async function measure(fleet: FleetClient, { name, chain, fromNothing }: Case): Promise<[string, object]> {
  const seen: number[] = [];
  const inside: number[] = [];
  for (let round = 0; round < ROUNDS + WARM_UP; round++) {
    if (fromNothing === true) await deploy(fleet, []);
    const begun = performance.now();
    const { duration_ms } = await deploy(fleet, chain(round));
    if (round < WARM_UP) continue;
    seen.push(performance.now() - begun);
    inside.push(duration_ms);
  }
  return [
    name,
    { median: quantile(seen, 0.5), p99: quantile(seen, 0.99), 'median in the agent': quantile(inside, 0.5) },
  ];
}

async function deploy(fleet: FleetClient, programs: Programs) {
  const payload = [{ host_name: HOST, iface: bed.iface, bpf_programs: { xdp_ingress: programs } }];
  const { acknowledgement } = await fleet.send('deploy', HOST, payload);
  if (!['applied', 'unchanged'].includes(acknowledgement.status)) throw new Error(JSON.stringify(acknowledgement));
  return acknowledgement;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0) * 10) / 10;
}
