import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCommand } from '../../../src/messages/parse.js';
import { bytes, HOST, onXdp, program } from './payloads.js';
import { P0, places, refused } from './refused.js';

describe('a field of a program', () => {
  for (const [field, value, words] of [
    ['name', undefined, /got nothing/],
    ['name', 'rate.limiting', /"rate.limiting"/],
    ['name', '../x', /letters, digits/],
    ['name', 'p'.repeat(64), /63/],
    ['name', null, /got null/],
    ['seq_id', undefined, /got nothing/],
    ['seq_id', '1', /integer from 0 to 1000000, got "1"/],
    ['seq_id', 1.5, /got 1.5/],
    ['seq_id', -1, /got -1/],
    ['seq_id', 1_000_001, /got 1000001/],
    ['version', '1..0', /without "\.\."/],
    ['version', '.1', /version/],
    ['version', '1/0', /version/],
    ['artifact', undefined, /got nothing/],
    ['artifact', '../x.tar.gz', /plain file name/],
    ['artifact', 'x.rar', /\.tar\.gz, \.tgz or \.zip/],
    ['artifact', `${'x'.repeat(252)}.zip`, /plain file name/],
    ['artifact', '.tar.gz', /plain file name/],
    ['object_file', 'a/b.o', /plain file name/],
    ['object_file', '..', /plain file name/],
    ['entry_function_name', '1f', /C function/],
    ['entry_function_name', 'f'.repeat(128), /C function/],
    ['entry_function_name', undefined, /got nothing/],
    ['map_name', '/sys/fs/bpf/xdp_rl_next', /bare name of a map .* not a path/],
    ['map_name', 'a\0b', /bare name/],
    ['prog_type', 'tc', /"xdp" in this list, got "tc"/],
    ['prog_type', 'kprobe', /"xdp" or "tc"/],
    ['admin_status', 'off', /"enabled" or "disabled"/],
    ['cfg_version', '1', /an integer/],
    ['user_program_daemon', 'false', /true or false/],
    ['ebpf_package_repo_url', 'ftp://x/y', /http, https or file URL/],
    ['ebpf_package_repo_url', 'http://[', /URL/],
    ['config_file_path', 'a\nb', /control characters/],
    ['monitor_maps', {}, /list of at most 64/],
    ['map_args', { rl_ports_map: '8080,8081' }, /early versions of l3afd/],
    ['start_args', [], /an object/],
  ] as const) {
    it(`${field} cannot be ${JSON.stringify(value)?.slice(0, 40)}`, () => {
      const faults = refused('deploy', bytes(onXdp(program({ [field]: value }))));

      assert.deepEqual(places(faults), [`INVALID_FIELD ${P0}.${field}`]);
      assert.match(faults[0]!.message, words);
      assert.match(faults[0]!.message, /^Expected .*, got /);
    });
  }

  for (const [what, value, place] of [
    ['a key that is a fraction', [{ name: 'm', args: [{ key: 0.5, value: 1 }] }], '.0.args.0.key'],
    ['a value past 2^53 as a number', [{ name: 'm', args: [{ key: 1, value: 2 ** 60 }] }], '.0.args.0.value'],
    ['an empty text as a value', [{ name: 'm', args: [{ key: 1, value: '' }] }], '.0.args.0.value'],
    ['a key without value', [{ name: 'm', args: [{ key: 1 }] }], '.0.args.0.value'],
    ['a map without name', [{ args: [] }], '.0.name'],
    [
      'the same key as number and as text',
      [
        {
          name: 'm',
          args: [
            { key: 1, value: 1 },
            { key: '1', value: 2 },
          ],
        },
      ],
      '.0.args.1.key',
    ],
    ['more than 4096 entries over all maps', ['a', 'b'].map((name) => ({ name, args: entries(2500) })), ''],
  ] as const) {
    it(`map_args cannot hold ${what}`, () => {
      assert.deepEqual(places(refused('deploy', bytes(onXdp(program({ map_args: value }))))), [
        `INVALID_FIELD ${P0}.map_args${place}`,
      ]);
    });
  }

  it('map_args cannot name a map twice', () => {
    const map_args = [
      { name: 'm', args: [] },
      { name: 'm', args: [] },
    ];

    assert.deepEqual(places(refused('deploy', bytes(onXdp(program({ map_args }))))), [
      `DUPLICATE_NAME ${P0}.map_args.1.name`,
    ]);
  });

  for (const [what, changes, place] of [
    ['a field that is not a path', { field: 'a..b' }, 'field'],
    ['an invalid key', { key: 1.5 }, 'key'],
    ['labels with names that l3afd uses', { labels: { host: 'x' } }, 'labels'],
    ['labels that Prometheus would refuse', { labels: { 'a-b': 'x' } }, 'labels'],
    ['labels with a line break', { labels: { team: 'a\n' } }, 'labels.team'],
  ] as const) {
    it(`monitor_maps cannot have ${what}`, () => {
      const monitor_maps = [{ name: 'm', key: 0, aggregator: 'avg', ...changes }];
      const faults = refused('deploy', bytes(onXdp(program({ monitor_maps }))));

      assert.deepEqual(places(faults), [`INVALID_FIELD ${P0}.monitor_maps.0.${place}`]);
    });
  }

  it('monitor_maps cannot request the same number twice, whatever the labels', () => {
    const one = { name: 'm', key: 1, aggregator: 'avg' };
    const others = [
      { ...one, aggregator: 'rate' },
      { ...one, field: 'rx' },
      { ...one, key: 2 },
    ];
    const again = { ...one, key: '1', labels: { team: 'edge' } };
    const faults = refused('deploy', bytes(onXdp(program({ monitor_maps: [one, ...others, again] }))));

    assert.deepEqual(places(faults), [`INVALID_FIELD ${P0}.monitor_maps.4`]);
  });

  it('monitor_maps cannot have an aggregator that does not exist', () => {
    const monitor_maps = [{ name: 'm', key: 0, aggregator: 'sum' }];
    const faults = refused('deploy', bytes(onXdp(program({ monitor_maps }))));

    assert.deepEqual(places(faults), [`INVALID_FIELD ${P0}.monitor_maps.0.aggregator`]);
    assert.match(faults[0]!.message, /"scalar", "max-rate", "rate", "avg", "min", "p95", got "sum"/);
  });
});

describe('a companion', () => {
  for (const [what, fields, place] of [
    ['a command that is a path', { cmd_start: '../../bin/sh' }, 'cmd_start'],
    ['a command that looks like an option', { cmd_start: 'run', cmd_stop: '-stop' }, 'cmd_stop'],
    ['a command with blanks', { cmd_status: 'a b' }, 'cmd_status'],
    ['a command in a folder', { cmd_update: 'bin/update' }, 'cmd_update'],
    ['a command above', { cmd_config: '..' }, 'cmd_config'],
    ['a rules file elsewhere', { cmd_start: 'run', rules: 'x', rules_file: '../rules' }, 'rules_file'],
    ['rules without a file', { cmd_start: 'run', rules: 'x' }, 'rules_file'],
    ['a daemon without a program', { user_program_daemon: true }, 'cmd_start'],
    ['arguments for an update without an update command', { update_args: { rate: 5 } }, 'cmd_update'],
    ['options that are a list', { start_args: ['a'] }, 'start_args'],
    ['an option that is an object', { start_args: { a: {} } }, 'start_args.a'],
    ['an option that is cut off by NUL', { stop_args: { a: 'x\0y' } }, 'stop_args.a'],
    ['an option with = in its name', { status_args: { 'a=b': '1' } }, 'status_args'],
    ['an option with a dash before its name', { config_args: { '-a': '1' } }, 'config_args'],
    ['too many options', { start_args: options(65) }, 'start_args'],
    ['negative CPU time', { cpu: -1 }, 'cpu'],
    ['half a byte', { memory: 0.5 }, 'memory'],
  ] as const) {
    it(`cannot have ${what}`, () => {
      const faults = refused('deploy', bytes(onXdp(program(fields))));

      assert.deepEqual(places(faults), [`INVALID_FIELD ${P0}.${place}`]);
      assert.match(faults[0]!.message, /^Expected .*, got /);
    });
  }
});

describe('a companion is told by nobody but the agent', () => {
  for (const [what, fields, place] of [
    ['which interface is its own', { start_args: { iface: 'eth9' } }, 'start_args.iface'],
    ['which slot to fill', { start_args: { 'map-name': '/sys/fs/bpf/x' } }, 'start_args.map-name'],
    ['where to write logs', { update_args: { 'log-dir': '/etc' } }, 'update_args.log-dir'],
    ['where its rules are', { config_args: { 'rules-file': '/etc/shadow' } }, 'config_args.rules-file'],
    ['which direction to stop', { stop_args: { direction: 'egress' } }, 'stop_args.direction'],
  ] as const) {
    it(what, () => {
      const faults = refused('deploy', bytes(onXdp(program(fields))));

      assert.ok(places(faults).includes(`INVALID_FIELD ${P0}.${place}`), places(faults).join());
      assert.match(faults.map(({ message }) => message).join(), /The agent gives this option itself/);
    });
  }

  it('but a command that gets nothing from the agent may have these options', () => {
    const status = { cmd_start: 'run', cmd_status: 'ask', status_args: { iface: 'eth0' } };
    assert.doesNotThrow(() => parseCommand('deploy', bytes(onXdp(program(status))), HOST));
  });
});

describe('a program without object file', () => {
  for (const object_file of ['', null, undefined]) {
    it(`needs a companion that loads it: ${JSON.stringify(object_file)}`, () => {
      const bare = { object_file, entry_function_name: '' };
      const faults = refused('deploy', bytes(onXdp(program({ ...bare, cmd_start: '' }))));
      assert.deepEqual(places(faults), [`INVALID_FIELD ${P0}.object_file`]);
      assert.match(faults[0]!.message, /or a cmd_start that loads it/);
      assert.doesNotThrow(() => parseCommand('deploy', bytes(onXdp(program({ ...bare, cmd_start: 'load' }))), HOST));
    });
  }
});

function options(count: number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`option${index}`, index]));
}

function entries(count: number): { key: number; value: number }[] {
  return Array.from({ length: count }, (_, key) => ({ key, value: 1 }));
}
