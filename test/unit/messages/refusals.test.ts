import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCommand } from '../../../src/messages/parse.js';
import { bytes, HOST, onXdp, program } from './payloads.js';
import { P0, P1, places, refused } from './refused.js';

describe('a body that is not a payload', () => {
  const raw = (text: string) => new TextEncoder().encode(text);
  for (const [what, body, code, words] of [
    ['empty', raw(''), 'INVALID_JSON', /empty body/],
    ['blank', raw(' \n\t'), 'INVALID_JSON', /empty body/],
    ['cut off', raw('[{"host_name": "we'), 'INVALID_JSON', /not JSON/],
    ['with a byte order mark', raw('\uFEFF[]'), 'INVALID_JSON', /byte order mark/],
    ['not UTF-8', Uint8Array.of(0x5b, 0x22, 0xff, 0x22, 0x5d), 'INVALID_JSON', /not UTF-8/],
    ['with a bare NUL', raw('["\0"]'), 'INVALID_JSON', /not JSON/],
    ['larger than 1 MiB', raw(`[${' '.repeat(1024 * 1024)}]`), 'INVALID_FIELD', /at most 1048576 bytes/],
    ['not a list', raw('{}'), 'INVALID_FIELD', /the body to be a list .* got an object/],
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

  it('must be on the host to which the command was sent', () => {
    for (const verb of ['deploy', 'add', 'delete']) {
      const faults = refused(verb, entry({ host_name: 'web2' }));

      assert.deepEqual(places(faults), ['FOREIGN_HOST 0.host_name']);
      assert.match(faults[0]!.message, /"web1".*got "web2"/);
    }
  });

  it('must name its host', () => {
    assert.deepEqual(places(refused('deploy', entry({ host_name: undefined }))), ['INVALID_FIELD 0.host_name']);
  });

  it('cannot occur twice', () => {
    const payload = [...onXdp(program()), ...onXdp(program({ name: 'other' }))];

    assert.deepEqual(places(refused('deploy', bytes(payload))), ['DUPLICATE_NAME 1.iface']);
  });

  it('cannot be one of more than 4096', () => {
    const payload = Array.from({ length: 4097 }, (_, index) => ({ host_name: HOST, iface: `eth${index}` }));

    assert.match(refused('deploy', bytes(payload))[0]!.message, /at most 4096.*got (a list of )?4097/);
  });
});

describe('the target of an entry', () => {
  it('has only the lists of its kind', () => {
    const lists = { xdp_ingress: [program()], cgroup_skb_egress: [program({ prog_type: 'cgroup_skb' })] };
    const payload = [
      { host_name: HOST, iface: 'eth1', bpf_programs: lists },
      { host_name: HOST, iface: '/a.slice', bpf_programs: lists },
    ];

    assert.deepEqual(places(refused('deploy', bytes(payload))), [
      'INVALID_FIELD 0.bpf_programs.cgroup_skb_egress',
      'INVALID_FIELD 1.bpf_programs.xdp_ingress',
    ]);
  });

  for (const iface of ['/a/../b', '/a//b', '/a/', '//', '/.', `/${'x'.repeat(120)}/${'.a'.repeat(60)}`]) {
    it(`is no control group as ${iface.slice(0, 20)}`, () => {
      const payload = [{ host_name: HOST, iface, bpf_programs: { cgroup_skb_egress: [program({ prog_type: '' })] } }];

      assert.deepEqual(places(refused('deploy', bytes(payload))), ['INVALID_FIELD 0.iface']);
    });
  }
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

  it("cannot be longer than the kernel's limit of tail calls", () => {
    const programs = Array.from({ length: 34 }, (_, index) => program({ name: `p${index}`, seq_id: index }));

    const [fault] = refused('deploy', bytes(onXdp(...programs)));
    assert.equal(fault!.path, '0.bpf_programs.xdp_ingress');
    assert.match(fault!.message, /at most 33 programs, got a list of 34 entries/);
  });

  it('cannot have a name to delete twice', () => {
    const payload = [{ host_name: HOST, iface: 'eth1', bpf_programs: { tc_egress: ['a', 'a'] } }];

    assert.deepEqual(places(refused('delete', bytes(payload))), ['DUPLICATE_NAME 0.bpf_programs.tc_egress.1']);
  });

  it('may have the same name and position in another direction', () => {
    const bpf_programs = { tc_ingress: [program()], tc_egress: [program()] };

    assert.doesNotThrow(() => parseCommand('deploy', bytes([{ host_name: HOST, iface: 'eth1', bpf_programs }]), HOST));
  });
});

describe('an unknown field', () => {
  it('is refused wherever it is', () => {
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

  it('is refused even in an object that accepts any field name', () => {
    const body = new TextEncoder().encode(
      JSON.stringify(onXdp(program({ start_args: 'HERE' }))).replace('"HERE"', '{"__proto__":{}}'),
    );

    assert.deepEqual(places(refused('deploy', body)), [`UNKNOWN_FIELD ${P0}.start_args.__proto__`]);
  });

  it('of an earlier payload is reported with its successor', () => {
    const [fault] = refused('delete', bytes([{ host_name: HOST, iface: 'eth1', bpf_program_names: {} }]));

    assert.match(fault!.message, /use bpf_programs/);
  });

  it('with a name that cannot be part of a path is shown in the message', () => {
    const [fault] = refused('deploy', bytes([{ host_name: HOST, iface: 'eth1', 'a.b': 1 }]));

    assert.equal(fault!.path, '0');
    assert.match(fault!.message, /"a\.b"/);
  });
});

describe('faults', () => {
  it('are all reported, in one refusal', () => {
    const payload = onXdp(
      program({ seq_id: 'x', is_plugin: 1, nonsense: 1 }),
      program({ prog_type: 'tc', version: '..' }),
    );

    assert.deepEqual(places(refused('deploy', bytes(payload))).toSorted(), [
      `DUPLICATE_NAME ${P1}.name`,
      `INVALID_FIELD ${P0}.is_plugin`,
      `INVALID_FIELD ${P0}.seq_id`,
      `INVALID_FIELD ${P1}.prog_type`,
      `INVALID_FIELD ${P1}.version`,
      `UNKNOWN_FIELD ${P0}.nonsense`,
    ]);
  });

  it('of the whole payload are reported even if a part of it cannot be checked further', () => {
    const long = Array.from({ length: 34 }, (_, index) => program({ name: `p${index}`, seq_id: index }));
    const payload = [
      { host_name: 'web2', iface: 'eth1', bpf_programs: { xdp_ingress: [program({ cfg_version: 0.5 })] } },
      { host_name: HOST, iface: 'eth1', bpf_programs: { tc_ingress: long } },
    ];

    assert.deepEqual(places(refused('deploy', bytes(payload))).toSorted(), [
      'DUPLICATE_NAME 1.iface',
      'FOREIGN_HOST 0.host_name',
      `INVALID_FIELD ${P0}.cfg_version`,
      'INVALID_FIELD 1.bpf_programs.tc_ingress',
    ]);
  });

  it('are 50 at most, however much is wrong', () => {
    assert.equal(refused('deploy', bytes(onXdp(...Array.from({ length: 33 }, () => ({})))))!.length, 50);
  });

  it('are found quickly in lists that are far too long', () => {
    const lists = { xdp_ingress: Array(2000).fill({}), tc_ingress: Array(2000).fill({}) };
    const faults = refused('deploy', bytes([{ host_name: HOST, iface: 'eth1', bpf_programs: lists }]));

    assert.deepEqual(places(faults), [
      'INVALID_FIELD 0.bpf_programs.xdp_ingress',
      'INVALID_FIELD 0.bpf_programs.tc_ingress',
    ]);
  });

  it('are one for a payload with more programs than any can have', () => {
    const entries = Array.from({ length: 50 }, (_, index) => ({
      host_name: HOST,
      iface: `eth${index}`,
      bpf_programs: { probes: Array(100).fill({}) },
    }));

    const [fault, ...more] = refused('deploy', bytes(entries));
    assert.match(fault!.message, /at most 4096 interfaces and programs in a payload, got 5050/);
    assert.deepEqual(more, []);
  });

  it('shorten a long value', () => {
    const [fault] = refused('deploy', bytes(onXdp(program({ name: 'x'.repeat(100_000) }))));

    assert.ok(fault!.message.length < 250, fault!.message);
    assert.match(fault!.message, /100000 characters/);
  });

  it("never contain zod's own texts", () => {
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
