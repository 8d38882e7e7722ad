import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryCompanions } from '../../src/companions/memory.js';
import { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import { type CompanionRef, companionKey, type ObservedCompanion } from '../../src/domain/companion.js';
import type { DesiredState } from '../../src/domain/desired.js';
import type { ChainHook } from '../../src/domain/hook.js';
import { AgentError } from '../../src/errors.js';
import { companionsNamedBy } from '../../src/reconcile/companion-watch.js';
import { Host, type Repair } from '../../src/reconcile/host.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { builtPackages, desiredAt, pathAt, planContext, program } from '../support/chains.js';
import { launchOf } from '../support/companions.js';
import { alone, type LoneHost } from '../support/in-turn.js';
import { log } from './support-crash.js';

const hook: ChainHook = { iface: 'veth0', direction: 'xdpingress' };
const keyOf = (name: string) => `veth0/xdpingress/${name}`;
const watched = (name: string, seqId: number) =>
  program(name, seqId, { companion: launchOf({ cmdStatus: 'ask' }).companion });

/** Companions that end, hang or fail to start when a test says so. */
class Fickle extends MemoryCompanions {
  readonly ended = new Set<string>();
  readonly silent = new Set<string>();
  readonly broken = new Set<string>();
  /** A companion that ends right after it has reported that it runs. */
  endsWhenAsked = '';
  readonly starts: string[] = [];

  override async observe(): Promise<readonly ObservedCompanion[]> {
    return (await super.observe()).map((found) =>
      this.ended.has(found.launch.package.name) ? { ...found, state: 'ended' as const } : found,
    );
  }

  override async start(...args: Parameters<MemoryCompanions['start']>): Promise<void> {
    const [{ package: ref }] = args;
    this.starts.push(ref.name);
    await this.stop(args[0]);
    if (this.broken.has(ref.name)) throw new AgentError('COMPANION_FAILED', 'it does not start');
    this.ended.delete(ref.name);
    await super.start(...args);
  }

  override async status(companion: CompanionRef): Promise<'running' | 'not running' | undefined> {
    const { name } = companion.package;
    if (name === this.endsWhenAsked) this.ended.add(name);
    return this.silent.has(name) ? 'not running' : super.status(companion);
  }
}

/** A host with the companions of a and b, after the command that started them. */
class Bed {
  readonly datapath = new MemoryDatapath({ bpffs: '/bpffs', interfaces: new Map([['veth0', 2]]) });
  readonly companions = new Fickle();
  readonly metrics = new Metrics('web1');
  readonly host: LoneHost;
  desired: DesiredState = desiredAt(hook, watched('a', 1), watched('b', 2));

  constructor(backOffMs = 0) {
    this.host = alone(
      new Host({
        tools: { datapath: this.datapath, packages: builtPackages, companions: this.companions },
        context: planContext('/bpffs'),
        metrics: this.metrics,
        restartPolicy: { maxRestarts: 2, windowMs: 3_600_000, backOffMs },
      }),
    );
  }

  static async running(backOffMs?: number): Promise<Bed> {
    const bed = new Bed(backOffMs);
    assert.equal((await bed.host.apply(null, bed.desired, log)).status, 'applied');
    await bed.repair();
    bed.companions.starts.length = 0;
    return bed;
  }

  repair(): Promise<Repair> {
    return this.host.repair(this.desired, log);
  }

  /** A companion that dies after every start. */
  async crashes(name: string, times: number): Promise<string[]> {
    const kinds: string[] = [];
    for (let time = 0; time < times; time++) {
      this.companions.ended.add(name);
      kinds.push(...((await this.repair()).news ?? []).map(({ kind }) => kind));
    }
    return kinds;
  }

  conditions(): Record<string, readonly [condition: string, restarts: number]> {
    return Object.fromEntries(
      this.host.watchedCompanions.map(({ package: { name }, condition, restarts }) => [name, [condition, restarts]]),
    );
  }

  async series(): Promise<string[]> {
    const text = await this.metrics.text();
    return text
      .split('\n')
      .filter((line) => line.startsWith('l3af_agent_companion_') && line.includes('"a"'))
      .map((line) => line.replace(/\{.*\}/, ''));
  }
}

test('a companion that keeps dying is restarted, then given up, and its chain and the others stay unchanged', async () => {
  const bed = await Bed.running();
  const path = pathAt(await bed.datapath.observe(), hook);

  const news = await bed.crashes('a', 4);

  assert.deepEqual(news, ['companion-restarted', 'companion-restarted', 'companion-given-up']);
  assert.deepEqual(bed.companions.starts, ['a', 'a']);
  assert.deepEqual(bed.conditions(), { a: ['given-up', 2], b: ['running', 0] });
  assert.deepEqual(await bed.series(), [
    'l3af_agent_companion_restarts_total 2',
    'l3af_agent_companion_running 0',
    'l3af_agent_companion_given_up 1',
  ]);
  assert.deepEqual(pathAt(await bed.datapath.observe(), hook), path);
});

test('a companion that fails to start gets as many attempts, and its fault does not delay the repair of chains', async () => {
  const bed = await Bed.running();
  bed.companions.broken.add('a');
  const [first, second, third] = [await bed.crashes('a', 1), await bed.crashes('a', 1), await bed.crashes('a', 1)];
  assert.deepEqual([first, second, third], [[], [], ['companion-given-up']]);
  assert.deepEqual(bed.conditions(), { a: ['given-up', 2], b: ['running', 0] });
  assert.equal(bed.host.watchedCompanions[0]?.fault?.code, 'COMPANION_FAILED');

  // and a damaged chain is repaired at the next check
  const { hooks } = await bed.datapath.observe();
  await bed.datapath.detach(hook, hooks[0]!.attachments[0]!.linkPin);
  const { done } = await bed.repair();
  assert.notDeepEqual(done, []);
  assert.deepEqual(pathAt(await bed.datapath.observe(), hook), ['a@1_0', 'b@1_0']);
});

test('a companion whose status command no longer answers is restarted at the second check', async () => {
  const bed = await Bed.running();
  bed.companions.silent.add('b');
  assert.deepEqual((await bed.repair()).news, []);
  const { news = [] } = await bed.repair();
  assert.deepEqual(
    news.map(({ kind, companion }) => [kind, companionKey(companion)]),
    [['companion-restarted', keyOf('b')]],
  );
  assert.deepEqual(bed.companions.starts, ['b']);
});

test('a companion that ends just after a check is left to the next check, so that its restart counts', async () => {
  const bed = await Bed.running();
  bed.companions.endsWhenAsked = 'a';
  assert.deepEqual((await bed.repair()).news, []);
  assert.deepEqual(bed.companions.starts, []);
  bed.companions.endsWhenAsked = '';
  const { news = [] } = await bed.repair();
  assert.deepEqual(
    news.map(({ kind }) => kind),
    ['companion-restarted'],
  );
  assert.deepEqual(bed.conditions().a, ['running', 1]);
});

test('while a companion waits for its restart, only a command that names it starts it', async () => {
  const bed = await Bed.running(3_600_000);
  await bed.crashes('a', 3);
  assert.deepEqual(bed.companions.starts, ['a']);
  assert.deepEqual(bed.conditions().a, ['waiting', 1]);

  // when a command adds another program, the companion is left alone
  const next = desiredAt(hook, watched('a', 1), watched('b', 2), watched('c', 3));
  const add = { verb: 'add', ...desiredAt(hook, watched('c', 3)) } as const;
  await bed.host.apply(bed.desired, next, log, { deadline: 0, named: companionsNamedBy(add) });
  assert.deepEqual(bed.companions.starts, ['a', 'c']);

  // when a deploy includes it, it gets a new chance, and its count starts again
  const deploy = { verb: 'deploy', ...next } as const;
  const report = await bed.host.apply(next, next, log, { deadline: 0, named: companionsNamedBy(deploy) });
  assert.equal(report.status, 'applied');
  bed.desired = next;
  await bed.repair();
  assert.deepEqual(bed.companions.starts, ['a', 'c', 'a']);
  assert.deepEqual(bed.conditions().a, ['running', 0]);
});

test('a companion that was given up is removed with its program', async () => {
  const bed = await Bed.running();
  await bed.crashes('a', 4);
  const rest = desiredAt(hook, watched('b', 2));
  const names = companionsNamedBy({ verb: 'delete', targets: [{ hook, names: ['a'] }] });
  assert.equal((await bed.host.apply(bed.desired, rest, log, { deadline: 0, named: names })).status, 'applied');
  bed.desired = rest;
  await bed.repair();
  assert.deepEqual(Object.keys(bed.conditions()), ['b']);
  assert.deepEqual(
    (await bed.companions.observe()).map(({ launch }) => companionKey(launch)),
    [keyOf('b')],
  );
  assert.deepEqual(await bed.series(), ['l3af_agent_companion_restarts_total 2']);
});
