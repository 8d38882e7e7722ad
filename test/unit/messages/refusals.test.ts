import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Fault, RefusedError } from '../../../src/errors.js';
import { parseCommand } from '../../../src/messages/parse.js';
import { bytes, HOST, onXdp, program } from './payloads.js';

/** The faults of a refusal; fails when there is none. */
function refused(verb: string, body: Uint8Array): readonly Fault[] {
  try {
    parseCommand(verb, body, HOST);
  } catch (error) {
    assert.ok(error instanceof RefusedError, `expected a RefusedError, got ${error}`);
    return error.faults;
  }
  return assert.fail('expected a refusal, got a command');
}

function places(faults: readonly Fault[]): string[] {
  return faults.map(({ code, path }) => (path === undefined ? code : `${code} ${path}`));
}

const P0 = '0.bpf_programs.xdp_ingress.0';
const P1 = '0.bpf_programs.xdp_ingress.1';

describe('a body that is no payload', () => {
  const raw = (text: string) => new TextEncoder().encode(text);
  for (const [what, body, code, words] of [
    ['empty', raw(''), 'INVALID_JSON', /empty body/],
    ['blank', raw(' \n\t'), 'INVALID_JSON', /empty body/],
    ['cut off', raw('[{"host_name": "we'), 'INVALID_JSON', /no JSON/],
    ['with a byte order mark', raw('\uFEFF[]'), 'INVALID_JSON', /byte order mark/],
    ['not UTF-8', Uint8Array.of(0x5b, 0x22, 0xff, 0x22, 0x5d), 'INVALID_JSON', /not UTF-8/],
    ['with a bare NUL', raw('["\0"]'), 'INVALID_JSON', /no JSON/],
    ['larger than 1 MiB', raw(`[${' '.repeat(1024 * 1024)}]`), 'INVALID_FIELD', /at most 1048576 bytes/],
    ['no list', raw('{}'), 'INVALID_FIELD', /the body to be a list .* got an object/],
    ['null', raw('null'), 'INVALID_FIELD', /the body to be a list .* got null/],
  ] as const) {
    it(`is refused when ${what}`, () => {
      const [fault, ...more] = refused('deploy', body);

      assert.equal(fault!.code, code);
      assert.match(fault!.message, words);
      assert.equal(fault!.path, undefined);
      assert.deepEqual(more, []);
    });
  }

  it('is refused when nested deeper than any payload, without a stack overflow', () => {
    const faults = refused('deploy', raw('['.repeat(500_000) + ']'.repeat(500_000)));

    assert.equal(faults[0]!.code, 'INVALID_FIELD');
    assert.match(faults[0]!.message, /nested at most 16 deep/);
  });
});

describe('a verb that does not exist', () => {
  for (const verb of ['', 'Deploy', 'update', 'constructor', '__proto__']) {
    it(`is refused: "${verb}"`, () => {
      assert.deepEqual(places(refused(verb, bytes([]))), ['UNKNOWN_VERB']);
    });
  }
});

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

  it('monitor_maps cannot have an aggregator that does not exist', () => {
    const monitor_maps = [{ name: 'm', key: 0, aggregator: 'sum' }];
    const faults = refused('deploy', bytes(onXdp(program({ monitor_maps }))));

    assert.deepEqual(places(faults), [`INVALID_FIELD ${P0}.monitor_maps.0.aggregator`]);
    assert.match(faults[0]!.message, /"scalar", "max-rate" or "avg", got "sum"/);
  });
});

describe('what is not supported yet', () => {
  for (const [field, value] of [
    ['cmd_start', 'ratelimiting'],
    ['cmd_stop', 'x'],
    ['cmd_status', 'x'],
    ['cmd_config', 'x'],
    ['cmd_update', 'x'],
    ['rules', 'a\nb'],
    ['rules_file', 'x'],
    ['is_plugin', true],
    ['user_program_daemon', true],
    ['cpu', 1],
    ['memory', 1],
    ['start_args', { verbose: '2' }],
    ['stop_args', { a: 1 }],
    ['status_args', { a: 1 }],
    ['update_args', { a: 1 }],
    ['config_args', { a: 1 }],
    ['object_file', ''],
    ['object_file', undefined],
  ] as const) {
    it(`is refused with its place: ${field}: ${JSON.stringify(value)}`, () => {
      const faults = refused('deploy', bytes(onXdp(program({ [field]: value }))));

      assert.deepEqual(places(faults), [`UNSUPPORTED ${P0}.${field}`]);
      assert.match(faults[0]!.message, /not supported yet/);
    });
  }

  it('includes probes, in a deploy and in a delete', () => {
    const withProbes = (probes: unknown[]) => bytes([{ host_name: HOST, iface: 'eth1', bpf_programs: { probes } }]);

    assert.deepEqual(places(refused('deploy', withProbes([program()]))), ['UNSUPPORTED 0.bpf_programs.probes']);
    assert.deepEqual(places(refused('delete', withProbes(['x']))), ['UNSUPPORTED 0.bpf_programs.probes']);
  });
});

describe('an interface', () => {
  const entry = (fields: Record<string, unknown>) => bytes([{ host_name: HOST, iface: 'eth1', ...fields }]);

  for (const iface of [
    '',
    '.',
    '..',
    'a b',
    'a/b',
    'eth0:1',
    'sixteen-letters!',
    'tc',
    'links',
    'progs',
    'eth\0',
    'été',
    7,
  ]) {
    it(`cannot be called ${JSON.stringify(iface)}`, () => {
      assert.deepEqual(places(refused('deploy', entry({ iface }))), ['INVALID_FIELD 0.iface']);
    });
  }

  for (const ipv4_address of ['10.0.0', '10.0.0.256', '10.0.0.1.', '1.2.3.4.5', '::1']) {
    it(`cannot have the address ${ipv4_address}`, () => {
      assert.deepEqual(places(refused('deploy', entry({ ipv4_address }))), ['INVALID_FIELD 0.ipv4_address']);
    });
  }

  it('must be on the host that was addressed', () => {
    for (const verb of ['deploy', 'add', 'delete']) {
      const faults = refused(verb, entry({ host_name: 'web2' }));

      assert.deepEqual(places(faults), ['FOREIGN_HOST 0.host_name']);
      assert.match(faults[0]!.message, /"web1".*got "web2"/);
    }
  });

  it('must name its host', () => {
    assert.deepEqual(places(refused('deploy', entry({ host_name: undefined }))), ['INVALID_FIELD 0.host_name']);
  });

  it('cannot come twice', () => {
    const payload = [...onXdp(program()), ...onXdp(program({ name: 'other' }))];

    assert.deepEqual(places(refused('deploy', bytes(payload))), ['DUPLICATE_NAME 1.iface']);
  });

  it('cannot be one of more than 64', () => {
    const payload = Array.from({ length: 65 }, (_, index) => ({ host_name: HOST, iface: `eth${index}` }));

    assert.match(refused('deploy', bytes(payload))[0]!.message, /at most 64 interfaces.*got a list of 65 entries/);
  });
});

describe('a chain', () => {
  it('cannot have a name twice', () => {
    const payload = onXdp(program({ seq_id: 1 }), program({ seq_id: 2 }));

    assert.deepEqual(places(refused('deploy', bytes(payload))), [`DUPLICATE_NAME ${P1}.name`]);
  });

  it('cannot have a position twice', () => {
    const payload = onXdp(program({ name: 'a' }), program({ name: 'b' }));

    assert.deepEqual(places(refused('add', bytes(payload))), [`DUPLICATE_SEQ_ID ${P1}.seq_id`]);
  });

  it('cannot be longer than the kernel follows tail calls', () => {
    const programs = Array.from({ length: 34 }, (_, index) => program({ name: `p${index}`, seq_id: index }));

    const [fault] = refused('deploy', bytes(onXdp(...programs)));
    assert.equal(fault!.path, '0.bpf_programs.xdp_ingress');
    assert.match(fault!.message, /at most 33 programs, got a list of 34 entries/);
  });

  it('cannot be deleted from by one name twice', () => {
    const payload = [{ host_name: HOST, iface: 'eth1', bpf_programs: { tc_egress: ['a', 'a'] } }];

    assert.deepEqual(places(refused('delete', bytes(payload))), ['DUPLICATE_NAME 0.bpf_programs.tc_egress.1']);
  });

  it('may have the same name and position in another direction', () => {
    const bpf_programs = { tc_ingress: [program()], tc_egress: [program()] };

    assert.doesNotThrow(() => parseCommand('deploy', bytes([{ host_name: HOST, iface: 'eth1', bpf_programs }]), HOST));
  });
});

describe('an unknown field', () => {
  it('is refused wherever it stands', () => {
    const payload = [
      {
        host_name: HOST,
        iface: 'eth1',
        mtu: 1500,
        bpf_programs: {
          xdp_egress: [],
          xdp_ingress: [program({ sequence: 1, monitor_maps: [{ name: 'm', key: 0, aggregator: 'avg', unit: 's' }] })],
        },
      },
    ];

    assert.deepEqual(
      places(refused('deploy', bytes(payload))).toSorted(),
      [
        'UNKNOWN_FIELD 0.bpf_programs.xdp_egress',
        `UNKNOWN_FIELD ${P0}.monitor_maps.0.unit`,
        `UNKNOWN_FIELD ${P0}.sequence`,
        'UNKNOWN_FIELD 0.mtu',
      ].toSorted(),
    );
  });

  it('is refused when it reaches for the prototype, and nothing is polluted', () => {
    const body = new TextEncoder().encode(`[{"host_name":"web1","iface":"eth1","__proto__":{"polluted":1}}]`);

    assert.deepEqual(places(refused('deploy', body)), ['UNKNOWN_FIELD 0.__proto__']);
    assert.equal(Reflect.get({}, 'polluted'), undefined);
  });

  it('of an earlier payload comes with its successor', () => {
    const [fault] = refused('delete', bytes([{ host_name: HOST, iface: 'eth1', bpf_program_names: {} }]));

    assert.match(fault!.message, /use bpf_programs/);
  });

  it('with a name that cannot stand in a path is told in the message', () => {
    const [fault] = refused('deploy', bytes([{ host_name: HOST, iface: 'eth1', 'a.b': 1 }]));

    assert.equal(fault!.path, '0');
    assert.match(fault!.message, /"a\.b"/);
  });
});

describe('faults', () => {
  it('are all reported, in one refusal', () => {
    const payload = onXdp(
      program({ seq_id: 'x', cmd_start: 'y', nonsense: 1 }),
      program({ prog_type: 'tc', version: '..' }),
    );

    assert.deepEqual(places(refused('deploy', bytes(payload))).toSorted(), [
      `DUPLICATE_NAME ${P1}.name`,
      `INVALID_FIELD ${P0}.seq_id`,
      `INVALID_FIELD ${P1}.prog_type`,
      `INVALID_FIELD ${P1}.version`,
      `UNKNOWN_FIELD ${P0}.nonsense`,
      `UNSUPPORTED ${P0}.cmd_start`,
    ]);
  });

  it('are 50 at most, however much is wrong', () => {
    assert.equal(refused('deploy', bytes(onXdp(...Array.from({ length: 33 }, () => ({})))))!.length, 50);
  });

  it('show a long value in short', () => {
    const [fault] = refused('deploy', bytes(onXdp(program({ name: 'x'.repeat(100_000) }))));

    assert.ok(fault!.message.length < 250, fault!.message);
    assert.match(fault!.message, /100000 characters/);
  });

  it("never speak zod's language", () => {
    const wrong = [null, 7, 'no name', [], {}, [[]], [{}], true];
    const payloads = [...wrong, ...wrong.map((value) => [value]), ...wrong.map((value) => onXdp(value))];
    for (const payload of payloads) {
      for (const verb of ['deploy', 'delete']) {
        if (Array.isArray(payload) && payload.length === 0) continue;
        for (const { message } of refused(verb, bytes(payload))) assert.match(message, /^Expected .*, got /);
      }
    }
  });
});

function entries(count: number): { key: number; value: number }[] {
  return Array.from({ length: count }, (_, key) => ({ key, value: 1 }));
}
