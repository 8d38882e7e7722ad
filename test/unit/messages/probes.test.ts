import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NOTHING_DESIRED, probesOf } from '../../../src/domain/desired.js';
import { fold } from '../../../src/domain/fold.js';
import { contentDigest } from '../../../src/domain/program.js';
import { parseCommand } from '../../../src/messages/parse.js';
import { bytes, type Fields, HOST, program } from './payloads.js';
import { places, refused } from './refused.js';

function probe(fields: Fields = {}): Fields {
  const { entry_function_name: _entry, ...needed } = program();
  return { ...needed, name: 'conntrack', ...fields };
}

const entry = (iface: string, lists: Fields) => ({ host_name: HOST, iface, bpf_programs: lists });
const on = (...probes: readonly unknown[]) => bytes([entry('eth1', { probes })]);

describe('probes in a payload', () => {
  it('belong to the host, by name, in whichever interface’s entry they are', () => {
    const payload = [
      entry('eth1', { probes: [probe({ name: 'b' })] }),
      entry('eth2', { probes: [probe({ name: 'a', seq_id: 9 })], xdp_ingress: [program()] }),
    ];
    const command = parseCommand('deploy', bytes(payload), HOST);
    assert.ok(command.verb === 'deploy');
    assert.deepEqual(
      probesOf(command).map(({ name, path, seqId, mapName }) => ({ name, path, seqId, mapName })),
      [
        { name: 'a', path: '1.bpf_programs.probes.0', seqId: 0, mapName: '' },
        { name: 'b', path: '0.bpf_programs.probes.0', seqId: 0, mapName: '' },
      ],
    );
    assert.equal(command.chains.length, 1);
  });

  it('are added and deleted by name', () => {
    const both = fold(NOTHING_DESIRED, parseCommand('deploy', on(probe({ name: 'a' }), probe({ name: 'b' })), HOST));
    const three = fold(both, parseCommand('add', on(probe({ name: 'c' }), probe({ name: 'a' })), HOST));
    const left = fold(three, parseCommand('delete', on('b', 'nobody'), HOST));
    assert.deepEqual(
      probesOf(left).map(({ name }) => name),
      ['a', 'c'],
    );
    assert.equal(fold(left, parseCommand('delete', on('a', 'c'), HOST)).probes, undefined);
  });

  for (const [what, fields, place] of [
    ['an object file is missing', { object_file: '' }, 'INVALID_FIELD 0.bpf_programs.probes.0.object_file'],
    ['the type is that of a chain', { prog_type: 'xdp' }, 'INVALID_FIELD 0.bpf_programs.probes.0.prog_type'],
    ['the type is not a word', { prog_type: 'a kprobe' }, 'INVALID_FIELD 0.bpf_programs.probes.0.prog_type'],
    ['a slot is given', { map_name: 'next' }, 'INVALID_FIELD 0.bpf_programs.probes.0.map_name'],
    [
      'a companion is to keep running but has no command',
      { user_program_daemon: true },
      'INVALID_FIELD 0.bpf_programs.probes.0.cmd_start',
    ],
    [
      'a number is requested twice',
      { monitor_maps: [0, 0].map((key) => ({ name: 'm', key, aggregator: 'avg' })) },
      'INVALID_FIELD 0.bpf_programs.probes.0.monitor_maps.1',
    ],
    ['the order is not a number', { seq_id: 'first' }, 'INVALID_FIELD 0.bpf_programs.probes.0.seq_id'],
    ['the name is a path', { name: '../x' }, 'INVALID_FIELD 0.bpf_programs.probes.0.name'],
  ] as const) {
    it(`are refused where ${what}`, () => assert.deepEqual(places(refused('deploy', on(probe(fields)))), [place]));
  }

  it('may give their kind, which has no effect', () => {
    const kinds = ['kprobe', 'tracepoint', 'uretprobe', '', null];
    const command = parseCommand(
      'deploy',
      on(...kinds.map((kind, i) => probe({ name: `p${i}`, prog_type: kind }))),
      HOST,
    );
    const plain = parseCommand('deploy', on(...kinds.map((_, i) => probe({ name: `p${i}` }))), HOST);

    assert.ok(command.verb === 'deploy' && plain.verb === 'deploy');
    assert.deepEqual(probesOf(command).map(contentDigest), probesOf(plain).map(contentDigest));
  });

  it('need no position, and may share one', () => {
    const { seq_id: _, ...without } = probe({ name: 'c' });
    const both = on(probe({ name: 'a', seq_id: 7 }), probe({ name: 'b', seq_id: 7 }), without, probe({ seq_id: null }));

    const command = parseCommand('deploy', both, HOST);

    assert.ok(command.verb === 'deploy');
    assert.deepEqual(
      probesOf(command).map(({ name, seqId }) => [name, seqId]),
      ['a', 'b', 'c', 'conntrack'].map((name) => [name, 0]),
    );
    const chain = bytes([entry('eth1', { xdp_ingress: [without] })]);
    assert.ok(places(refused('deploy', chain)).includes('INVALID_FIELD 0.bpf_programs.xdp_ingress.0.seq_id'));
  });

  it('have each name once, in all entries together', () => {
    const twice = bytes(['eth1', 'eth2'].map((iface) => entry(iface, { probes: [probe()] })));
    assert.deepEqual(places(refused('add', twice)), ['DUPLICATE_NAME 1.bpf_programs.probes.0.name']);
    const names = bytes(['eth1', 'eth2'].map((iface) => entry(iface, { probes: ['x'] })));
    assert.deepEqual(places(refused('delete', names)), ['DUPLICATE_NAME 1.bpf_programs.probes.0']);
  });
});
