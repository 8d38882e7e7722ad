import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Layout } from '../../../src/domain/layout.js';
import type { MapInfo, StoredEntries } from '../../../src/domain/observed.js';
import { contentDigest, type MapValue, type MonitoredMap, type Program } from '../../../src/domain/program.js';
import { AgentError } from '../../../src/errors.js';
import {
  entryFindings,
  fillOf,
  keysToCompare,
  planMapChanges,
  staleConstants,
  waitingEntries,
} from '../../../src/plan/maps/changes.js';
import { program } from '../../support/chains.js';

/*
 * What live maps are changed to: the difference between what they hold and what `map_args` say.
 */

const DIR = '/bpffs/progs/veth0/a/1_0/xdpingress-0-1';
const INT: Layout = { kind: 'int', size: 4, signed: false, bool: false, network: false };
const HASH: MapInfo = { name: 'rules', id: 1, type: 1, keySize: 4, valueSize: 4, maxEntries: 8, key: INT, value: INT };
const ARRAY: MapInfo = { ...HASH, name: 'cells', id: 2, type: 2 };
const DEVMAP: MapInfo = { ...HASH, name: 'ports', id: 3, type: 14 };
const RODATA: MapInfo = {
  ...ARRAY,
  name: 'a_rodata',
  id: 4,
  maxEntries: 1,
  value: {
    kind: 'struct',
    size: 4,
    name: 'the section .rodata',
    section: '.rodata',
    fields: [{ name: 'limit', bitOffset: 0, layout: INT }],
  },
};
const MAPS = [HASH, ARRAY, DEVMAP, RODATA];

const asking = (...args: readonly (readonly [string, MapValue, MapValue])[]): Program =>
  program('a', 1, { mapArgs: args.map(([name, key, value]) => ({ name, args: [{ key, value }] })) });
const hex = (value: number) => Buffer.from(Uint32Array.of(value).buffer).toString('hex');

interface Given {
  readonly before?: Program;
  /** Map to key to value; null for a key that is not there. */
  readonly live?: Readonly<Record<string, readonly (readonly [number, number | null])[]>>;
  readonly interfaces?: Readonly<Record<string, number>>;
}

function groundOf({ live = {}, interfaces = {} }: Given) {
  const entries = Object.entries(live).map(([name, some]): [string, StoredEntries] => [
    `${DIR}/maps/${name}`,
    new Map(some.map(([key, value]) => [hex(key), value === null ? null : hex(value)])),
  ]);
  return { interfaces: new Map(Object.entries(interfaces)), entries: new Map(entries) };
}

function changes(wanted: Program, given: Given = {}) {
  const inherited = { from: { dir: DIR, digest: contentDigest(wanted) }, maps: MAPS };
  const before = given.before === undefined ? undefined : [given.before];
  const members = [{ program: wanted, inherited, load: undefined }];
  return planMapChanges(members, before, groundOf(given)).map(({ map, set, remove, make }) => ({
    map: map.split('/').at(-1),
    set: set.map(({ key, value }) => `${key}=${value}`),
    remove,
    ...(make !== undefined && { make }),
  }));
}

const refusal = (path: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AgentError);
  assert.deepEqual([error.code, error.path], ['MAP_VALUE_INVALID', path]);
  assert.match(error.message, message);
  return true;
};

describe('an entry', () => {
  const wanted = asking(['rules', 1, 7]);
  const write = { map: 'rules', set: [`${hex(1)}=${hex(7)}`], remove: [] };

  test('is written if the live map does not hold it, whatever was applied', () => {
    for (const before of [undefined, asking(), wanted]) {
      const given = before === undefined ? {} : { before };
      assert.deepEqual(changes(wanted, { ...given, live: { rules: [[1, null]] } }), [write]);
      assert.deepEqual(changes(wanted, { ...given, live: { rules: [[1, 8]] } }), [write]);
      assert.deepEqual(changes(wanted, { ...given, live: { rules: [[1, 7]] } }), []);
    }
  });

  test('of a map that cannot be read is written if it was not applied', () => {
    assert.deepEqual(changes(wanted, { before: asking(['rules', 1, 6]) }), [write]);
    assert.deepEqual(changes(wanted, { before: wanted }), []);
  });

  test('that is no longer listed is deleted from a hash if it is there, and stays in an array', () => {
    const before = asking(['rules', 1, 7], ['cells', 1, 7]);
    const live = { rules: [[1, 9]] as const, cells: [[1, 9]] as const };
    assert.deepEqual(changes(asking(), { before, live }), [{ map: 'rules', set: [], remove: [hex(1)] }]);
    assert.deepEqual(changes(asking(), { before, live: { ...live, rules: [[1, null]] } }), []);
    assert.deepEqual(changes(asking(), { live }), [], 'nothing is known to be ours');
  });

  test('that was applied and does not fit any more never makes a command fail', () => {
    const odd = asking(['rules', 1, 'text']);
    assert.deepEqual(changes(odd, { before: odd, live: { rules: [] } }), []);
    assert.deepEqual(changes(wanted, { before: odd, live: { rules: [[1, null]] } }), [write]);
    assert.throws(() => changes(odd, { before: wanted }), refusal(`${odd.path}.map_args.0.args.0.value`, /an integer/));
  });
});

describe('an entry for an interface', () => {
  const byName = asking(['ports', 0, 'eth1']);

  test('that is gone waits if it was applied, and is refused if it is new', () => {
    const live = { ports: [[0, null]] as const };
    assert.deepEqual(changes(byName, { before: byName, live }), []);
    assert.throws(
      () => changes(byName, { before: asking(), live }),
      refusal(`${byName.path}.map_args.0.args.0.value`, /eth1/),
    );
    const inherited = { from: { dir: DIR, digest: '' }, maps: MAPS };
    const waiting = waitingEntries([{ program: byName, inherited }], groundOf({}));
    assert.match(waiting.get(byName) ?? '', /A value of ports is for the interface eth1, .* when it appears/);
    assert.equal(fillOf(byName, [], [byName])[0]?.mayWait, true);
    assert.equal(fillOf(byName, [], [asking()])[0]?.mayWait, undefined);
  });

  test('is written with the index that the interface has now', () => {
    const set = [`${hex(0)}=${hex(9)}`];
    for (const value of [null, 8]) {
      const live = { ports: [[0, value]] as const };
      assert.deepEqual(changes(byName, { before: byName, live, interfaces: { eth1: 9 } }), [
        { map: 'ports', set, remove: [] },
      ]);
    }
    assert.deepEqual(changes(byName, { before: byName, live: { ports: [[0, 9]] }, interfaces: { eth1: 9 } }), []);
  });
});

test('a constant is compared with the frozen map, and never written to it', () => {
  const stale = (wanted: Program, given: Given) => {
    const loaded = { dir: DIR, digest: contentDigest(wanted), maps: MAPS };
    return staleConstants(loaded, wanted, given.before && [given.before], groundOf(given)).map(({ name }) => name);
  };
  const wanted = asking(['limit', 0, 5]);
  assert.deepEqual(changes(wanted, { live: { a_rodata: [[0, 4]] } }), []);
  assert.deepEqual(stale(wanted, { live: { a_rodata: [[0, 4]] } }), ['a_rodata']);
  assert.deepEqual(stale(wanted, { live: { a_rodata: [[0, 5]] } }), []);
  assert.deepEqual(stale(asking(), { before: wanted, live: { a_rodata: [[0, 5]] } }), ['a_rodata']);
  assert.deepEqual(stale(wanted, { before: wanted }), []);
});

test('a monitored key is made if it is not there, once', () => {
  const monitors: readonly MonitoredMap[] = [{ name: 'rules', key: 3, aggregator: 'scalar', field: '', labels: {} }];
  const wanted = program('a', 1, { monitors });
  const make = [{ map: 'rules', set: [], remove: [], make: [hex(3)] }];
  assert.deepEqual(changes(wanted, { before: asking(), live: { rules: [[3, null]] } }), make);
  assert.deepEqual(changes(wanted, { before: asking(), live: { rules: [[3, 9]] } }), []);
  assert.deepEqual(
    changes(wanted, { before: wanted, live: { rules: [[3, null]] } }),
    [],
    'the program may have deleted it',
  );
});

test('what is compared is what is told', () => {
  const wanted = asking(['rules', 1, 7], ['limit', 0, 5]);
  const loaded = { name: 'a', dir: DIR, digest: contentDigest(wanted), maps: MAPS };
  assert.deepEqual(
    [...keysToCompare([loaded], [wanted], new Map())].map(([pin, keys]) => [pin, [...keys]]),
    [
      [`${DIR}/maps/rules`, [hex(1)]],
      [`${DIR}/maps/a_rodata`, [hex(0)]],
    ],
  );
  const found = entryFindings([loaded], [wanted], groundOf({ live: { rules: [[1, 8]], a_rodata: [[0, 5]] } }));
  assert.deepEqual(found, ['1 entry of rules of a is not as map_args say']);
});
