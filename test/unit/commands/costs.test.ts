import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Lane } from '../../../src/apply/lane.js';
import { Agent } from '../../../src/commands/agent.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import type { AttachPointName } from '../../../src/domain/hook.js';
import type { Observed } from '../../../src/domain/observed.js';
import { Host } from '../../../src/reconcile/host.js';
import { Journal } from '../../../src/store/journal.js';
import { createLogger } from '../../../src/telemetry/log.js';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { answeringBus } from '../../support/answering-bus.js';
import { builtPackages, noCompanions, planContext, restartPolicy } from '../../support/chains.js';
import { payloadProgram } from '../../support/packages.js';
import { DyingDisk } from '../store/dying-disk.js';

/*
 * What a command costs, in counts: how often the host is observed, how often something is put on disk, and how much.
 */

const HOST = 'web1';
const BPFFS = '/bpffs';
const STREAM_CREATED = '2026-01-01T00:00:00Z';
/** Longer than all of a command but its desired state: its key and its answer. */
const SHORT_RECORD = 2_000;

class CountedDatapath extends MemoryDatapath {
  observations = 0;

  override async observe(cgroups?: readonly string[]): Promise<Observed> {
    this.observations += 1;
    return super.observe(cgroups);
  }
}

interface Cost {
  readonly status: string;
  readonly observations: number;
  readonly syncs: number;
  /** Bytes that were written to the journal. */
  readonly bytes: number;
}

async function givenAgent() {
  const datapath = new CountedDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const disk = new DyingDisk();
  const journal = new Journal({ dir: '/state', files: disk });
  await journal.open();
  let status = '';
  const bus = answeringBus(journal, STREAM_CREATED, (answer) => {
    status = answer.status;
  });
  const metrics = new Metrics(HOST);
  const log = createLogger({ level: 'silent', host: HOST });
  const host = new Host({
    tools: { datapath, packages: builtPackages, companions: noCompanions },
    context: planContext(BPFFS),
    metrics,
    restartPolicy,
  });
  const agent = new Agent({
    hostName: HOST,
    ackSubject: `l3af.ack.${HOST}`,
    rules: { chaining: true, ordered: new Set<AttachPointName>(['ingress', 'egress']) },
    serverNow: Date.now,
    signal: new AbortController().signal,
    stands: async () => true,
    journal,
    host,
    bus,
    metrics,
    log,
    lane: new Lane(),
  });
  let seq = 0;
  return async (programs: readonly object[]): Promise<Cost> => {
    seq += 1;
    const [looked, begun] = [datapath.observations, disk.operations.length];
    const payload = [{ host_name: HOST, iface: 'veth0', bpf_programs: { xdp_ingress: programs } }];
    await agent.handle({
      id: `c${seq}`,
      verb: 'deploy',
      body: Buffer.from(JSON.stringify(payload)),
      seq,
      storedAt: new Date(Date.UTC(2026, 0, 1) + seq).toISOString(),
      streamCreated: STREAM_CREATED,
      gen: undefined,
      prevGen: undefined,
      expires: undefined,
    });
    const done = disk.operations.slice(begun);
    return {
      status,
      observations: datapath.observations - looked,
      syncs: done.filter(({ name }) => name === 'sync').length,
      bytes: done.reduce((sum, { name, length }) => sum + (name === 'write' ? length : 0), 0),
    };
  };
}

const three = (version = '1.0', port = 7777) => [
  payloadProgram('port-count', { seq_id: 1 }),
  payloadProgram('port-drop', {
    seq_id: 2,
    version,
    map_args: [{ name: 'drop_ports', args: [{ key: port, value: 1 }] }],
  }),
  payloadProgram('rate-limit', { seq_id: 3 }),
];

describe('a command costs', () => {
  it('one observation and two syncs if it changes nothing, and no desired state in the journal', async () => {
    const deploy = await givenAgent();
    await deploy(three());
    const { bytes, ...counts } = await deploy(three());
    assert.deepEqual(counts, { status: 'unchanged', observations: 1, syncs: 2 });
    assert.ok(bytes < SHORT_RECORD, `${bytes} bytes`);
  });

  it('one observation and two syncs if it changes entries of maps', async () => {
    const deploy = await givenAgent();
    await deploy(three());
    const { bytes: _bytes, ...counts } = await deploy(three('1.0', 7778));
    assert.deepEqual(counts, { status: 'applied', observations: 1, syncs: 2 });
  });

  it('three observations and two syncs if it changes a chain', async () => {
    const deploy = await givenAgent();
    const costs = [await deploy(three()), await deploy(three('2.0')), await deploy([])];
    assert.deepEqual(
      costs.map(({ bytes: _bytes, ...counts }) => counts),
      costs.map(() => ({ status: 'applied', observations: 3, syncs: 2 })),
    );
  });
});
