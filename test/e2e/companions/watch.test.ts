import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { L3AFMetaData } from '../../../src/messages/snapshot.js';
import { processesWith } from '../../support/companions.js';
import { type PackageSpec, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { until, untilGiven } from '../../support/until.js';
import { resultsOf } from '../support/chain.js';
import { numberIn, programIdsOf } from '../support/kernel.js';
import { PLATFORM, Stage } from '../support/stage.js';

/*
 * What happens to a companion that dies, hangs or can no longer be started, while packets pass its program.
 */

const OPTIONS = `for word; do case $word in --switch=*) switch=\${word#*=} ;; esac; done`;

const keeper: PackageSpec = {
  name: 'port-count',
  version: '1.0',
  platform: PLATFORM,
  artifact: 'kept.tar.gz',
  files: {
    'port_count.bpf.o': builtObject('port_count'),
    keep: { script: `#!/bin/sh\n${OPTIONS}\nwhile [ ! -e "$switch/broken" ]; do sleep 0.05; done\nexit 3\n` },
    ask: { script: `#!/bin/sh\n${OPTIONS}\n[ -e "$switch/silent" ] || echo RUNNING\n` },
  },
};

let stage: Stage;
/** A folder whose files `broken` and `silent` tell the companion how to behave. */
let switches: string;
/** What the agent has published: all events, and the latest metrics. */
const events: { readonly kind: string; readonly data: Record<string, unknown> }[] = [];
let metrics: readonly { readonly MetricName: string; readonly Value: number }[] = [];

before(async () => {
  switches = await mkdtemp(join(tmpdir(), 'l3af-switches-'));
  stage = await Stage.open({
    host: 'watch',
    packages: [keeper],
    env: { L3AF_RECONCILE_INTERVAL: '200ms', L3AF_COMPANION_MAX_RESTARTS: '2', L3AF_METRICS_INTERVAL: '200ms' },
  });
  stage.nats.subscribe(`l3af.evt.${stage.host}.*`, { callback: (_, message) => void events.push(message.json()) });
  stage.nats.subscribe(`l3af.metrics.${stage.host}`, {
    callback(_, message) {
      metrics = message.json<{ metrics: typeof metrics }>().metrics;
    },
  });
  await stage.nats.flush();
});
after(async () => {
  await stage.close();
  await rm(switches, { recursive: true });
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});

const kept = (overrides: Partial<PayloadProgram> = {}): PayloadProgram =>
  payloadProgram('port-count', {
    artifact: 'kept.tar.gz',
    seq_id: 10,
    cmd_start: 'keep',
    cmd_status: 'ask',
    user_program_daemon: true,
    start_args: { switch: switches },
    status_args: { switch: switches },
    ...overrides,
  });

const dropper = () => payloadProgram('port-drop', { seq_id: 20 });

/** Process ids of the running companions, without their short-lived status commands and child processes. */
function keepers(): number[] {
  return processesWith(stage.stateDir).filter((pid) => contentOf(`/proc/${pid}/cmdline`).includes('/keep\0--iface='));
}

function companion(): Promise<number> {
  return untilGiven('one companion runs', () => (keepers().length === 1 ? keepers()[0] : undefined));
}

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

const turn = (name: 'broken' | 'silent', on: boolean) =>
  on ? writeFile(join(switches, name), '') : rm(join(switches, name));

/** Waits until the program in the snapshot is as described, and returns it. */
function told(what: string, wanted: (data: L3AFMetaData) => boolean): Promise<L3AFMetaData> {
  return untilGiven(what, async () => {
    const { IngressXDPBpfs } = await stage.fleet.request(stage.host, 'state', {});
    return IngressXDPBpfs[stage.bed.iface]?.find((data) => data.Program.name === 'port-count' && wanted(data));
  });
}

/** Waits until a published metric of the companion has a value. */
async function untilMetric(name: string, value: number): Promise<void> {
  await until(`${name} is ${value}`, () =>
    metrics.some(({ MetricName, Value }) => MetricName === `l3af_agent_companion_${name}` && Value === value),
  );
}

/** The data of the nth event of a kind, counted from 1. */
function eventNumber(count: number, kind: string): Promise<Record<string, unknown>> {
  return untilGiven(`event ${count}: ${kind}`, () => events.filter((event) => event.kind === kind)[count - 1]?.data);
}

test('a companion that is killed or falls silent is started again, and no packet misses its program meanwhile', async () => {
  assert.equal((await stage.deploy({ xdp_ingress: [kept()] })).status, 'applied');
  const programs = programIdsOf(await stage.chain());
  const traffic = await stage.startTraffic(8080, 2_000);

  // when it is killed
  const first = await companion();
  process.kill(first, 'SIGKILL');
  const data = await eventNumber(1, 'companion-restarted');
  assert.deepEqual(
    [data.iface, data.direction, data.program, data.version, data.restarts, data.why],
    [stage.bed.iface, 'xdpingress', 'port-count', '1.0', 1, 'it has ended'],
  );
  const second = await companion();

  // and when the next one runs, but does not report it
  await turn('silent', true);
  await until('it is gone', () => !keepers().includes(second));
  await turn('silent', false);
  assert.equal((await eventNumber(2, 'companion-restarted')).why, 'its cmd_status does not say RUNNING');

  // then a companion runs, both restarts are counted, and the chain is the same
  await told('it runs', ({ CompanionState, RestartCount }) => CompanionState === 'running' && RestartCount === 2);
  await untilMetric('restarts_total', 2);
  await untilMetric('running', 1);
  const sent = await traffic.stop();
  assert.deepEqual(programIdsOf(await stage.chain()), programs);
  await until('every packet was counted', async () => {
    return Number(await numberIn(stage.xdpMap('port-count', '1.0', 'packet_count'))) >= sent;
  });
});

test('l3afd defect 19: a failed restart panics; the agent retries up to its limit, then gives up until a command names it', async () => {
  const programs = programIdsOf(await stage.chain());
  await turn('broken', true);
  assert.equal((await eventNumber(1, 'companion-given-up')).restarts, 2);
  await told('it is given up', ({ CompanionState }) => CompanionState === 'given-up');
  await untilMetric('given_up', 1);
  const { healthy, checks } = await stage.fleet.request(stage.host, 'health', {});
  assert.equal(healthy, false);
  assert.match(JSON.stringify(checks), /companion of .*port-count.*given up after 2 restarts/);
  const { companions } = await stage.fleet.request(stage.host, 'status', {});
  assert.deepEqual(
    companions?.map(({ name, condition, restarts }) => [name, condition, restarts]),
    [['port-count', 'given-up', 2]],
  );
  assert.deepEqual(programIdsOf(await stage.chain()), programs);

  // a command about another program does not start it
  assert.equal((await stage.add({ xdp_ingress: [dropper()] })).status, 'applied');
  assert.equal(keepers().length, 0);

  // a command that names it fails while it cannot be started
  const failed = await stage.deploy({ xdp_ingress: [kept(), dropper()] });
  assert.deepEqual([failed.status, failed.code], ['failed', 'COMPANION_FAILED']);
  await turn('broken', false);
  // A repair may have started it already, since the failed command allowed new attempts.
  assert.notEqual((await stage.deploy({ xdp_ingress: [kept(), dropper()] })).status, 'failed');
  await companion();
  await told('it is well', ({ CompanionState }) => CompanionState === 'running');
  assert.equal((await stage.fleet.request(stage.host, 'health', {})).healthy, true);
});

test('the next agent starts a companion again that the previous agent has given up', async () => {
  await turn('broken', true);
  await eventNumber(2, 'companion-given-up');
  await turn('broken', false);
  assert.equal(keepers().length, 0);
  await stage.agent.kill('SIGKILL');
  await stage.agent.start();
  await companion();
  assert.deepEqual(resultsOf(await stage.deploy({ xdp_ingress: [kept(), dropper()] })), {
    'port-count': 'unchanged',
    'port-drop': 'unchanged',
  });
});
