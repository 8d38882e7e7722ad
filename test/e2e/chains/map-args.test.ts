import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MapArgs, MapValue } from '../../../src/domain/program.js';
import { ENDPOINT, ENDPOINT_BYTES, RULE, RULE_BYTES } from '../../contract/map-args.js';
import { payloadProgram } from '../../support/packages.js';
import { PROJECT_ROOT } from '../../support/project.js';
import { resultsOf } from '../support/chain.js';
import { bpftool, hexBytes, numberIn, programIdsOf } from '../support/kernel.js';
import { DISCARD_PORT, eventually, Stage } from '../support/stage.js';

/*
 * `map_args` in commands, and the content of the kernel's maps, as bpftool reads it.
 */

const PROGRAM = '0.bpf_programs.xdp_ingress.0';

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'map-args', env: { L3AF_RECONCILE_INTERVAL: '1h' } });
});
after(() => stage.close());

const policy = (map_args: readonly MapArgs[]) => ({ xdp_ingress: [payloadProgram('policy', { map_args })] });
const entry = (name: string, ...args: readonly (readonly [MapValue, MapValue])[]): MapArgs => ({
  name,
  args: args.map(([key, value]) => ({ key, value })),
});
const pin = (map: string) => stage.xdpMap('policy', '1.0', map);

interface Dumped {
  readonly key: readonly string[];
  readonly value?: readonly string[];
  readonly values?: readonly { readonly value: readonly string[] }[];
}

/** Key to value, in hexadecimal. For a per-CPU map: the values of all CPUs in a row. Entries of zeros are left out. */
async function content(map: string): Promise<Record<string, string>> {
  const dump = await bpftool<readonly Dumped[]>('map', 'dump', 'pinned', pin(map));
  const hex = (bytes: readonly string[]) => Buffer.from(bytes.map(Number)).toString('hex');
  const entries = dump.map(({ key, value, values = [] }): [string, string] => [
    hex(key),
    value === undefined ? values.map((one) => hex(one.value)).join('') : hex(value),
  ]);
  return Object.fromEntries(entries.filter(([, value]) => /[^0]/.test(value)));
}

const SHARE = { weight: 9, bias: -1 };
const SHARE_BYTES = '09000000ff000000';

/** A map, the same entry in a payload and in bytes, and whether a key is removed when it is no longer listed. */
const KINDS: readonly (readonly [string, MapValue, MapValue, string, string, boolean])[] = [
  ['policy_rules', ENDPOINT, RULE, ENDPOINT_BYTES, RULE_BYTES, true],
  ['policy_prefixes', '10.0.0.0/8', 'VERDICT_DROP', '080000000a000000', '07000000', true],
  ['policy_marks', 53, '0x0100000000000000', '0035', '0100000000000000', true],
  ['policy_cpu_hash', 53, SHARE, '3500', SHARE_BYTES, true],
  ['policy_cpu_lru', 53, SHARE, '3500', SHARE_BYTES, true],
  ['policy_budgets', 2, { packets: 7 }, '02000000', `07${'00'.repeat(15)}`, false],
  ['policy_cpu_array', 2, SHARE, '02000000', SHARE_BYTES, false],
];

test('entries are written to maps of each kind; those no longer listed are removed from hashes and tries, and stay in arrays', async () => {
  const args = KINDS.map(([map, key, value]) => entry(map, [key, value]));
  assert.equal((await stage.deploy(policy(args))).status, 'applied');
  const ids = programIdsOf(await stage.chain());
  for (const [map, , , key, value] of KINDS) {
    const found = await content(map);
    assert.deepEqual(Object.keys(found), [key], map);
    assert.equal(found[key]!.replaceAll(value, ''), '', `${map} has the value, for each CPU: ${found[key]}`);
  }

  const ack = await stage.deploy(policy([]));

  assert.deepEqual([ack.status, resultsOf(ack)], ['applied', { policy: 'updated' }]);
  for (const [map, , , key, , goes] of KINDS) {
    assert.deepEqual(Object.keys(await content(map)), goes ? [] : [key], map);
  }
  assert.deepEqual(programIdsOf(await stage.chain()), ids, 'nothing was loaded for it');
});

test('structs in network order match what the program reads from packets', async () => {
  const address = stage.bed.address;
  const to = { address, port: DISCARD_PORT, protocol: 17, fragment: false };
  const rule = { ...RULE, verdict: 'VERDICT_COUNT', limit: { rate: 1000, offset: 0 } };
  const share = { weight: 100, bias: 0 };
  await stage.deploy(
    policy([
      entry('policy_rules', [to, rule]),
      entry('policy_marks', [DISCARD_PORT, '0x0a00000000000000']),
      entry('policy_cpu_hash', [DISCARD_PORT, share]),
    ]),
  );
  const before = (await numberIn(pin('policy_last')))!;

  await stage.receive(5, DISCARD_PORT);

  await eventually(
    async () => ((await numberIn(pin('policy_last')))! - before) / 5,
    (each) => each === 1000 + 10 + 100,
    'each packet should meet the rule, the mark and the share of its CPU',
  );
});

test('the examples of README.md are accepted as they are', async () => {
  const readme = readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8');
  const rows = [...readme.matchAll(/^\| `(policy_\w+)` \| [^|]+ \| `([^`]+)` \| `([^`]+)` \|$/gm)];
  assert.equal(rows.length, 8);
  const json = (text: string) => JSON.parse(text) as MapValue;
  const args = rows.map(([, map = '', key = '', value = '']) => entry(map, [json(key), json(value)]));

  const ack = await stage.deploy(policy(args));

  assert.equal(ack.status, 'applied', ack.message);
  for (const { name } of args) assert.notDeepEqual(await content(name), {}, name);
});

test('a per-CPU map takes one value for each CPU', async () => {
  const cpus = (await bpftool<readonly Dumped[]>('map', 'dump', 'pinned', pin('policy_cpu_array')))[0]!.values!.length;
  const shares = Array.from({ length: cpus }, (_, cpu) => ({ weight: cpu + 1, bias: 0 }));

  const ack = await stage.deploy(policy([entry('policy_cpu_lru', [53, shares])]));

  assert.equal(ack.status, 'applied');
  const expected = shares.map(({ weight }) => `${weight.toString(16).padStart(2, '0')}000000`.padEnd(16, '0'));
  assert.equal((await content('policy_cpu_lru'))['3500'], expected.join(''));
});

const WRONG: readonly (readonly [string, MapArgs, string, RegExp])[] = [
  ['an array index out of range', entry('policy_budgets', [4, { packets: 1 }]), 'args.0.key', /keys go from 0 to 3/],
  ['a struct where a number belongs', entry('policy_prefixes', ['10.0.0.0/8', { a: 1 }]), 'args.0.value', /one of/],
  ['an overflow in a field', entry('policy_cpu_hash', [1, { weight: 1, bias: 128 }]), 'args.0.value.bias', /-128 to/],
  [
    'a wrong number of CPUs',
    entry('policy_cpu_hash', [1, []]),
    'args.0.value',
    /one for each possible CPU, as .*; got a list of 0/,
  ],
  ['an unknown field', entry('policy_budgets', [0, { packet: 1 }]), 'args.0.value.packet', /has no field "packet"/],
  [
    'more entries than the map holds',
    entry('policy_cpu_hash', ...[...Array(9).keys()].map((n) => [n, SHARE] as const)),
    'args',
    /at most 8/,
  ],
  ['an unknown map', entry('policy_rule', [1, 1]), 'name', /has no map policy_rule; it has .*policy_rules/],
];

for (const state of ['live', 'new'] as const) {
  for (const [what, wrong, field, message] of WRONG) {
    test(`${what} is refused with its path, for a ${state} program, and nothing has changed`, async () => {
      await stage.deploy(state === 'live' ? policy([entry('policy_marks', [1, '0x0100000000000000'])]) : {});
      const before = await stage.kernel();

      const ack = await stage.deploy(policy([entry('policy_marks', [2, '0x0200000000000000']), wrong]));

      assert.equal(ack.status, 'failed');
      assert.equal(ack.undone, true);
      assert.equal(ack.errors[0]?.path, `${PROGRAM}.map_args.1.${field}`);
      assert.match(ack.message ?? '', message);
      assert.deepEqual(await stage.kernel(), before);
      if (state === 'live') assert.deepEqual(await content('policy_marks'), { '0001': '0100000000000000' });
    });
  }
}

test('a command whose entries do not fit into a hash that others have filled writes none of its entries to any map', async () => {
  await stage.deploy(policy([]));
  for (const n of [1, 2, 3]) {
    const [key, value] = [Buffer.alloc(8, n), Buffer.alloc(56, n)];
    await bpftool('map', 'update', 'pinned', pin('policy_rules'), 'key', ...hexBytes(key), 'value', ...hexBytes(value));
  }
  const before = await content('policy_rules');
  const rules = [1, 2].map((port) => [{ ...ENDPOINT, port }, RULE] as const);

  const ack = await stage.deploy(
    policy([entry('policy_marks', [7, '0x0700000000000000']), entry('policy_rules', ...rules)]),
  );

  assert.equal(ack.status, 'failed');
  assert.equal(ack.undone, true);
  assert.equal(ack.errors[0]?.code, 'MAP_VALUE_INVALID');
  assert.equal(ack.errors[0]?.path, `${PROGRAM}.map_args.1`);
  assert.match(ack.message ?? '', /policy_rules has no room .* it holds 4 entries/);
  assert.deepEqual(await content('policy_rules'), before);
  assert.deepEqual(await content('policy_marks'), {});
});

test('struct arguments survive a restart of the agent: only what differs is written', async () => {
  await stage.deploy(policy([entry('policy_cpu_hash', [1, SHARE])]));
  await stage.agent.stop();
  await stage.agent.start();

  const same = await stage.deploy(policy([entry('policy_cpu_hash', [1, { bias: -1, weight: '0x9' }])]));
  const other = await stage.deploy(policy([entry('policy_cpu_hash', [2, SHARE])]));

  assert.deepEqual(resultsOf(same), { policy: 'unchanged' });
  assert.deepEqual(resultsOf(other), { policy: 'updated' });
  assert.deepEqual(Object.keys(await content('policy_cpu_hash')), ['0200']);
});
