import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { MapArgs, MapValue } from '../../../src/domain/program.js';
import { ENDPOINT, ENDPOINT_BYTES, RULE, RULE_BYTES } from '../../contract/map-args.js';
import { MAP_KINDS } from '../../contract/map-kinds.js';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { repeats } from '../../support/repeats.js';
import { noteMade } from '../../support/this-run.js';
import { run } from '../../support/tool.js';
import { resultsOf } from '../support/chain.js';
import { bpftool, hexBytes, programIdsOf } from '../support/kernel.js';
import { DISCARD_PORT, eventually, Stage } from '../support/stage.js';

/*
 * A map of any kind can be written, compared with what is there, and written again: by a live agent, for each map type
 * that takes entries, with arguments in types and byte by byte, and whatever happens meanwhile.
 */

/** The kinds of arguments with which an agent is started again: that does not depend on how they are written. */
const OVER_RESTARTS = (['typed', 'raw'] as const).slice(0, repeats({ usual: 1, full: 2 }));

let stage: Stage;
/** An interface that entries name, and its index. */
let otherIface: string;
let index: number;
before(async () => {
  stage = await Stage.open({ host: 'map-kinds', env: { L3AF_RECONCILE_INTERVAL: '1h', L3AF_MONITOR_INTERVAL: '1h' } });
  otherIface = `${stage.bed.iface}k`;
  noteMade(otherIface);
  await makeInterface();
});
after(async () => {
  await stage.close();
  await run('ip', ['link', 'del', otherIface]);
});

async function makeInterface(): Promise<void> {
  await run('ip', ['link', 'add', otherIface, 'type', 'veth', 'peer', 'name', `${otherIface}p`]);
  index = Number(readFileSync(`/sys/class/net/${otherIface}/ifindex`, 'utf8'));
}

interface Kind {
  readonly program: 'map-kinds' | 'policy' | 'port-drop';
  readonly map: string;
  /** An entry in types and byte by byte, and another value. */
  readonly typed: readonly [MapValue, MapValue];
  readonly raw: readonly [MapValue, MapValue];
  readonly other: MapValue;
  /** The bytes of the key. */
  readonly key: string;
  /** Of an array: its keys cannot be deleted. */
  readonly isArray?: true;
}

const ofKinds = (name: string, isArray?: true): Kind => {
  const { key, values, other, keyBytes } = MAP_KINDS.find((kind) => kind.name === name)!;
  const [typed, raw] = [values[0]!, values.at(-1)!];
  return {
    program: 'map-kinds',
    map: name,
    typed: [key, typed],
    raw: [key, raw],
    other,
    key: keyBytes,
    ...(isArray && { isArray }),
  };
};
const SHARE = { weight: 9, bias: -1 };
const ofPolicy = (
  map: string,
  typed: Kind['typed'],
  raw: Kind['raw'],
  other: MapValue,
  key: string,
  isArray?: true,
): Kind => {
  return { program: 'policy', map, typed, raw, other, key, ...(isArray && { isArray }) };
};

/** HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE, DEVMAP, DEVMAP_HASH and CPUMAP. */
const KINDS: readonly Kind[] = [
  ofPolicy(
    'policy_rules',
    [ENDPOINT, RULE],
    [`0x${ENDPOINT_BYTES}`, `0x${RULE_BYTES}`],
    { ...RULE, priority: 3 },
    ENDPOINT_BYTES,
  ),
  ofPolicy('policy_budgets', [2, { packets: 7 }], ['0x2', `0x07${'00'.repeat(15)}`], { packets: 8 }, '02000000', true),
  ofPolicy('policy_cpu_hash', [53, SHARE], ['0x35', '0x09000000ff000000'], { weight: 1, bias: 1 }, '3500'),
  ofPolicy('policy_cpu_array', [2, SHARE], ['0x2', '0x09000000ff000000'], { weight: 1, bias: 1 }, '02000000', true),
  ofPolicy('policy_marks', [53, { number: 1 }], ['0x35', '0x0100000000000000'], { number: 2 }, '0035'),
  ofPolicy('policy_cpu_lru', [53, SHARE], ['0x35', '0x09000000ff000000'], { weight: 1, bias: 1 }, '3500'),
  ofPolicy('policy_prefixes', ['10.0.0.0/8', 'VERDICT_DROP'], ['0x080000000a000000', '0x7'], 1, '080000000a000000'),
  { program: 'port-drop', map: 'drop_ports', typed: [7777, 1], raw: ['0x1e61', '0x1'], other: 2, key: '611e' },
  ofKinds('kinds_struct_key', true),
  ofKinds('kinds_ports'),
  ofKinds('kinds_port_values'),
  ofKinds('kinds_targets'),
  ofKinds('kinds_cpus'),
  ofKinds('kinds_counters', true),
  ofKinds('kinds_rules'),
  ofKinds('kinds_write_only'),
  ofKinds('kinds_program_reads'),
];

const given = (value: MapValue): MapValue => {
  const text = JSON.stringify(value).replaceAll('"INDEX"', String(index)).replaceAll('IFACE', otherIface);
  return JSON.parse(text) as MapValue;
};
const withEntry = ({ program, map }: Kind, [key, value]: Kind['typed']): PayloadProgram => {
  const args: MapArgs = { name: map, args: [{ key: given(key), value: given(value) }] };
  return payloadProgram(program, { map_args: [args] });
};
const pinOf = ({ program, map }: Kind) => stage.xdpMap(program, '1.0', map);

/** The value under the key of a kind, in hexadecimal, for all CPUs in a row; undefined if there is none. */
async function stored(kind: Kind): Promise<string | undefined> {
  const hex = (bytes: readonly string[]) => Buffer.from(bytes.map(Number)).toString('hex');
  const [name, keys] = [pinOf(kind), hexBytes(Buffer.from(kind.key, 'hex'))];
  const found = await bpftool<{
    value?: readonly string[] | object;
    values?: readonly { value: readonly string[] }[];
    error?: string;
  }>('map', 'lookup', 'pinned', name, 'key', ...keys).catch(() => undefined);
  if (found === undefined || found.error !== undefined) return undefined;
  if (found.values !== undefined) return found.values.map(({ value }) => hex(value)).join('');
  return Array.isArray(found.value) ? hex(found.value as string[]) : undefined;
}

async function setByHand(kind: Kind, value: string): Promise<void> {
  // bpftool takes one value for all CPUs.
  const one = /cpu_|counters/.test(kind.map) ? value.slice(0, value.length / cpus) : value;
  const key = hexBytes(Buffer.from(kind.key, 'hex'));
  await bpftool('map', 'update', 'pinned', pinOf(kind), 'key', ...key, 'value', ...hexBytes(Buffer.from(one, 'hex')));
}

/** The number of possible CPUs: `0-3`. */
const cpus = 1 + Number(/\d+$/.exec(readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim())?.[0] ?? 0);

const deleteByHand = (kind: Kind) =>
  bpftool('map', 'delete', 'pinned', pinOf(kind), 'key', ...hexBytes(Buffer.from(kind.key, 'hex')));

/** What an agent that looks after the host finds and does, at its start. */
async function restart({ withJournal }: { readonly withJournal: boolean }): Promise<void> {
  await stage.agent.stop();
  if (!withJournal) rmSync(`${stage.stateDir}/journal`, { recursive: true, force: true });
  await stage.agent.start();
}

const plan = async (program: PayloadProgram) => {
  const payload = stage.payload({ xdp_ingress: [program] });
  return stage.fleet.request(stage.host, 'plan', { verb: 'deploy', payload });
};

for (const kind of KINDS) {
  for (const form of ['typed', 'raw'] as const) {
    test(`${kind.map}, ${form}: written, the same again, beside other changes, damaged by hand, and over restarts`, async () => {
      const program = withEntry(kind, kind[form]);
      const deploy = (xdp: PayloadProgram) => stage.deploy({ xdp_ingress: [xdp] });
      await stage.deploy({});
      const first = await deploy(program);
      assert.equal(first.status, 'applied', first.message);
      const value = await stored(kind);
      assert.ok(value !== undefined);
      const ids = programIdsOf(await stage.chain());
      const is = async (result: string, ack: Awaited<ReturnType<typeof deploy>>, what: string) => {
        assert.deepEqual([ack.message, resultsOf(ack)[kind.program]], [undefined, result], what);
        assert.equal(await stored(kind), value, what);
      };

      const isAgain = async (ack: Awaited<ReturnType<typeof deploy>>, what: string) => {
        assert.match(String(resultsOf(ack)[kind.program]), /^(updated|unchanged)$/, what);
        assert.equal(await stored(kind), value, what);
      };

      await is('unchanged', await deploy(program), 'the same again');
      await is('unchanged', await deploy(withEntry(kind, kind.typed)), 'the same in types');
      await deploy(withEntry(kind, [kind.typed[0], kind.other === 1 && kind.map === 'kinds_ports' ? 1 : kind.other]));
      assert.notEqual(await stored(kind), value, 'another value');
      await is('updated', await deploy(program), 'the first value again');

      await is(
        'unchanged',
        await stage.add({ xdp_ingress: [payloadProgram('port-count', { seq_id: 9 })] }),
        'an add here',
      );
      await is('unchanged', await stage.add({ tc_ingress: [payloadProgram('tc-count')] }), 'an add elsewhere');
      await is('unchanged', await stage.delete({ xdp_ingress: ['port-count'], tc_ingress: ['tc-count'] }), 'a delete');

      // The agent also looks after the host when an interface appears anywhere on it: it may have repaired this before.
      await eventually(
        async () => {
          await setByHand(kind, other(kind, value));
          return (await plan(program)).commit;
        },
        (commit) => commit.some(({ text }) => text.includes(`write 1 entry of ${kind.map}`)),
        'the plan should tell that the entry is another one',
      );
      await isAgain(await deploy(program), 'changed by hand');
      if (kind.isArray !== true) {
        await deleteByHand(kind);
        await isAgain(await deploy(program), 'deleted by hand');
      }
      if (OVER_RESTARTS.includes(form)) {
        if (kind.isArray !== true) {
          await deleteByHand(kind);
          await restart({ withJournal: true });
          assert.equal(await stored(kind), value, 'repaired by the next agent');
        }
        await restart({ withJournal: false });
        await is('unchanged', await deploy(program), 'with an empty journal');
      }
      assert.deepEqual(programIdsOf(await stage.chain()), ids, 'nothing was loaded for any of it');

      const last = await deploy(payloadProgram(kind.program));
      assert.equal(last.status, kind.isArray === true ? 'unchanged' : 'applied');
      assert.equal(await stored(kind), kind.isArray === true ? value : undefined, 'no longer listed');
    });
  }
}

/** Another value that somebody may write by hand. */
function other({ map }: Kind, value: string): string {
  // The index of the loopback interface, or another number.
  const first = map.startsWith('kinds_port') || map === 'kinds_targets' ? '01' : value.startsWith('05') ? '06' : '05';
  return first + (first === '01' ? '00'.repeat(3) + value.slice(8) : value.slice(2));
}

describe('an entry whose interface goes', () => {
  const kind = KINDS.find(({ map }) => map === 'kinds_ports')!;

  test('by its name: it is written with the new index when the interface is made anew', async () => {
    assert.equal((await stage.deploy({ xdp_ingress: [withEntry(kind, [3, 'IFACE'])] })).status, 'applied');
    const before = await stored(kind);
    await run('ip', ['link', 'del', otherIface]);
    await eventually(
      () => stored(kind),
      (value) => value === undefined,
      'the kernel removes the entry',
    );
    const waiting = await stage.add({ tc_ingress: [payloadProgram('tc-count')] });
    assert.equal(waiting.status, 'applied');
    assert.match(
      waiting.programs.find(({ name }) => name === 'map-kinds')?.message ?? '',
      new RegExp(`${otherIface}, which this host does not have`),
    );
    assert.equal((await stage.deploy({ xdp_ingress: [withEntry(kind, [3, 'IFACE'])] })).status, 'applied');

    await makeInterface();

    await eventually(
      () => stored(kind),
      (value) => value !== undefined && value !== before,
      'it is written again',
    );
  });

  test('by its index: other commands go on, and another one is refused with its path', async () => {
    await stage.deploy({});
    assert.equal((await stage.deploy({ xdp_ingress: [withEntry(kind, [3, 'INDEX'])] })).status, 'applied');
    const gone = index;
    await run('ip', ['link', 'del', otherIface]);
    await makeInterface();
    assert.equal((await stage.add({ tc_ingress: [payloadProgram('tc-count')] })).status, 'applied');

    const wrong = withEntry(kind, [3, 'INDEX']);
    const args = [{ name: kind.map, args: [{ key: 4, value: gone }] }];
    const ack = await stage.deploy({ xdp_ingress: [{ ...wrong, map_args: args }] });

    assert.deepEqual([ack.status, ack.code], ['failed', 'MAP_VALUE_INVALID']);
    assert.equal(ack.errors[0]?.path, '0.bpf_programs.xdp_ingress.0.map_args.0.args.0.value');
    assert.equal((await stage.deploy({ xdp_ingress: [wrong] })).status, 'applied');
  });
});

describe('global variables', () => {
  const section = async (name: string) => {
    const [entry] = await bpftool<readonly { formatted: { value: Record<string, readonly object[]> } }[]>(
      'map',
      'dump',
      'pinned',
      stage.xdpMap('map-kinds', '1.0', `map_kind_${name}`),
    );
    return Object.assign({}, ...Object.values(entry!.formatted.value).flat()) as Record<string, number>;
  };
  const setting = (...map_args: readonly MapArgs[]) => ({ xdp_ingress: [payloadProgram('map-kinds', { map_args })] });
  const variable = (name: string, value: MapValue): MapArgs => ({ name, args: [{ key: 0, value }] });

  test('a constant is another load, on the maps that the program has; what is no longer listed is as in the object', async () => {
    await stage.deploy({});
    await stage.deploy(setting(variable('kinds_limit', 60)));
    await stage.receive(5, DISCARD_PORT);
    const seen = (await section('bss')).kinds_seen!;
    assert.ok(seen >= 5);
    assert.equal((await section('rodata')).kinds_limit, 60);
    const ids = programIdsOf(await stage.chain());
    assert.equal((await stage.deploy(setting(variable('kinds_limit', 60)))).status, 'unchanged');
    await restart({ withJournal: false });
    assert.equal((await stage.deploy(setting(variable('kinds_limit', 60)))).status, 'unchanged');
    assert.deepEqual(programIdsOf(await stage.chain()), ids);

    const other = await stage.deploy(setting(variable('kinds_limit', 61)));

    assert.deepEqual(resultsOf(other), { 'map-kinds': 'updated' });
    assert.notDeepEqual(programIdsOf(await stage.chain()), ids);
    assert.equal((await section('rodata')).kinds_limit, 61);
    assert.ok((await section('bss')).kinds_seen! >= seen, 'what was counted is kept');
    assert.deepEqual(resultsOf(await stage.deploy(setting())), { 'map-kinds': 'updated' });
    assert.equal((await section('rodata')).kinds_limit, 0);
  });

  test('another one is written while the program counts beside it, and nothing that it counts is lost', async () => {
    await stage.deploy({});
    await stage.deploy(setting());
    const ids = programIdsOf(await stage.chain());
    const traffic = await stage.startTraffic(DISCARD_PORT, 2_000);
    for (let round = 0; round < 40; round++)
      await stage.deploy(setting(variable('kinds_flags', [round % 2, 0, round % 3])));
    const sent = await traffic.stop();
    const counted = await eventually(
      async () => (await section('bss')).kinds_seen!,
      (count) => count >= sent,
      'every packet should be counted',
    );
    assert.ok(counted >= sent);
    assert.deepEqual(programIdsOf(await stage.chain()), ids);
  });
});

describe('a monitored key', () => {
  const counting = (version: string, more: Partial<PayloadProgram> = {}) =>
    payloadProgram('map-kinds', {
      version,
      monitor_maps: [{ name: 'kinds_counted', key: 0, aggregator: 'scalar' }],
      ...more,
    });
  const counted = async (version: string) => {
    const dump = await bpftool<readonly { value: readonly string[] }[]>(
      'map',
      'dump',
      'pinned',
      stage.xdpMap('map-kinds', version, 'kinds_counted'),
    );
    return dump.length;
  };

  test('is there when the command is answered: at the start, at an update, when newly asked for and in a new place', async () => {
    await stage.deploy({});
    await stage.deploy({ xdp_ingress: [counting('1.0')] });
    assert.equal(await counted('1.0'), 1);
    await stage.deploy({ xdp_ingress: [counting('2.0')] });
    assert.equal(await counted('2.0'), 1);
    await stage.deploy({ xdp_ingress: [counting('1.0', { monitor_maps: [] })] });
    assert.equal(await counted('1.0'), 0);
    await stage.deploy({ xdp_ingress: [counting('1.0')] });
    assert.equal(await counted('1.0'), 1, 'newly asked for');
    const pin = stage.xdpMap('map-kinds', '1.0', 'kinds_counted');
    await bpftool('map', 'delete', 'pinned', pin, 'key', '0x00', '0x00', '0x00', '0x00');
    await stage.deploy({ xdp_ingress: [counting('1.0', { seq_id: 5 }), payloadProgram('port-count', { seq_id: 9 })] });
    await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { seq_id: 1 }), counting('1.0', { seq_id: 5 })] });
    assert.equal(await counted('1.0'), 1, 'loaded again for another place');
  });
});

test('a map that asks to be pinned by its name is one for an XDP and a TC program of a package', async () => {
  const tc = payloadProgram('map-kinds', {
    prog_type: 'tc',
    entry_function_name: 'tc_kinds',
    map_name: 'kinds_tc_next',
  });
  await stage.deploy({ xdp_ingress: [payloadProgram('map-kinds')], tc_ingress: [tc], tc_egress: [tc] });
  const id = async (pin: string) => (await bpftool<{ id: number }>('map', 'show', 'pinned', pin)).id;
  assert.equal(
    await id(stage.xdpMap('map-kinds', '1.0', 'kinds_shared')),
    await id(stage.tcMap('map-kinds', '1.0', 'kinds_shared')),
  );
});
