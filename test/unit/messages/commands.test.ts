import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { AddCommand, DeployCommand } from '../../../src/domain/command.js';
import { hookKey, targetName } from '../../../src/domain/hook.js';
import { parseCommand } from '../../../src/messages/parse.js';
import { bytes, DELETE_PAYLOAD, FLEET_PAYLOAD, GO_PROGRAM, HOST, onXdp, program } from './payloads.js';

function deploy(payload: unknown): DeployCommand {
  return parseCommand('deploy', bytes(payload), HOST) as DeployCommand;
}

describe('a deploy', () => {
  it('becomes chains by interface and direction, their programs by position', () => {
    const command = deploy(FLEET_PAYLOAD);

    const chains = command.chains.map(({ hook, programs }) => [
      hookKey(hook),
      programs.map(({ name, seqId }) => `${seqId} ${name}`),
    ]);
    assert.deepEqual(chains, [
      ['eth1/xdpingress', ['1 ratelimiting', '2 connection-limit']],
      ['eth1/ingress', ['1 ipfix-flow-exporter']],
      ['eth1/egress', ['1 ipfix-flow-exporter']],
      ['eth2.100/xdpingress', ['1 ratelimiting']],
    ]);
    assert.deepEqual(command.addresses, { eth1: '10.0.0.7' });
  });

  it("treats Go's zero values as absent", () => {
    const [chain] = deploy(onXdp(GO_PROGRAM)).chains;

    const { payload, ...parsed } = chain!.programs[0]!;
    assert.deepEqual(parsed, {
      name: 'ratelimiting',
      version: 'latest',
      seqId: 1,
      artifact: 'l3af_ratelimiting.tar.gz',
      repoUrl: '',
      objectFile: 'ratelimiting_kern.o',
      entryFunction: '_xdp_ratelimiting',
      mapName: 'xdp_rl_ingress_next_prog',
      enabled: true,
      carryMaps: [],
      mapArgs: [{ name: 'rl_ports_map', args: [{ key: 8080, value: 1 }] }],
      monitors: [
        { name: 'rl_drop_count_map', key: 0, aggregator: 'scalar', field: '', labels: {} },
        { name: 'rl_recv_count_map', key: 0, aggregator: 'max-rate', field: '', labels: {} },
      ],
      path: '0.bpf_programs.xdp_ingress.0',
    });
  });

  it('keeps the program as received, without the fields that were null', () => {
    const [chain] = deploy(onXdp(GO_PROGRAM)).chains;

    const expected = Object.fromEntries(Object.entries(GO_PROGRAM).filter(([, value]) => value !== null));
    assert.deepEqual(chain!.programs[0]!.payload, expected);
  });

  it('of a program with a companion contains everything that is needed to run it', () => {
    const fields = {
      cmd_start: 'run',
      start_args: { ports: '80,443', rate: 7 },
      user_program_daemon: true,
      cmd_stop: 'halt',
      stop_args: { how: 'soft' },
      cmd_status: 'state',
      status_args: { short: 'yes' },
      cmd_update: 'set',
      update_args: { rate: 9 },
      cmd_config: 'conf',
      config_args: { file: 'a b' },
      cpu: 60,
      memory: 1_000_000,
      rules_file: 'my.rules',
      rules: 'deny all\n',
    };
    const [chain] = deploy(onXdp(program(fields))).chains;

    assert.deepEqual(chain!.programs[0]!.companion, {
      cmdStart: 'run',
      startArgs: { ports: '80,443', rate: '7' },
      daemon: true,
      cmdStop: 'halt',
      stopArgs: { how: 'soft' },
      cmdStatus: 'state',
      statusArgs: { short: 'yes' },
      cmdUpdate: 'set',
      updateArgs: { rate: '9' },
      cmdConfig: 'conf',
      configArgs: { file: 'a b' },
      cpuSeconds: 60,
      memoryBytes: 1_000_000,
      rulesFile: 'my.rules',
      rules: 'deny all\n',
    });
  });

  it('of a program with arguments for commands that it does not have has no companion', () => {
    const [chain] = deploy(onXdp(program({ start_args: { a: 1 }, cmd_stop: 'halt', rules_file: 'x' }))).chains;

    assert.equal(chain!.programs[0]!.companion, undefined);
  });

  it('needs only the fields of a program that are required to load it', () => {
    const [chain] = deploy(onXdp(program())).chains;

    const { repoUrl, mapName, enabled, mapArgs } = chain!.programs[0]!;
    assert.deepEqual({ repoUrl, mapName, enabled, mapArgs }, { repoUrl: '', mapName: '', enabled: true, mapArgs: [] });
  });

  it('points each program at its place in the payload, not in the chain', () => {
    const [chain] = deploy(onXdp(program({ name: 'second', seq_id: 9 }), program({ name: 'first', seq_id: 0 }))).chains;

    assert.deepEqual(
      chain!.programs.map(({ name, path }) => [name, path]),
      [
        ['first', '0.bpf_programs.xdp_ingress.1'],
        ['second', '0.bpf_programs.xdp_ingress.0'],
      ],
    );
  });

  it('accepts the type of a monitored key, but uses that of the map', () => {
    const monitor = { name: 'm', key: '0', aggregator: 'scalar' };
    const [chain] = deploy(onXdp(program({ monitor_maps: [{ ...monitor, key_type: 'int' }] }))).chains;

    assert.deepEqual(chain!.programs[0]!.monitors, [{ ...monitor, field: '', labels: {} }]);
  });

  it('of a disabled program makes it desired without running it', () => {
    const [chain] = deploy(onXdp(program({ admin_status: 'disabled' }))).chains;

    assert.equal(chain!.programs[0]!.enabled, false);
  });

  it('of nothing makes the host run nothing', () => {
    assert.deepEqual(deploy([]), { verb: 'deploy', chains: [], addresses: {} });
  });

  it('accepts the longest chain that the kernel can run', () => {
    const programs = Array.from({ length: 33 }, (_, index) => program({ name: `p${index}`, seq_id: index }));

    assert.equal(deploy(onXdp(...programs)).chains[0]!.programs.length, 33);
  });

  for (const [field, value] of [
    ['name', 'p'.repeat(63)],
    ['version', '1.0.0-rc.1_2'],
    ['artifact', 'l3af-2.0.zip'],
    ['artifact', 'l3af.tgz'],
    ['map_name', '.bss'.replace('.', '_')],
    ['map_name', 'ingress_any_jmp_table.v2'],
    ['seq_id', 1_000_000],
    ['ebpf_package_repo_url', 'https://packages.example:8443/l3af?x=1'],
    ['ebpf_package_repo_url', 'file:///srv/packages'],
    ['map_args', [{ name: 'm', args: [{ key: '10.0.0.1', value: '18446744073709551615' }] }]],
    ['map_args', [{ name: 'm', args: null }]],
    ['monitor_maps', []],
    ['rules', null],
    ['is_plugin', true],
  ] as const) {
    it(`takes ${field}: ${JSON.stringify(value).slice(0, 60)}`, () => {
      assert.equal(deploy(onXdp(program({ [field]: value }))).chains.length, 1);
    });
  }

  for (const iface of ['eth0.100', 'eth0_100', 'abcdefghijklmno', 'br-1', 'veth@if', '%d']) {
    it(`takes the interface ${iface}`, () => {
      const [chain] = deploy([{ host_name: HOST, iface, bpf_programs: { xdp_ingress: [program()] } }]).chains;

      assert.equal(targetName(chain!.hook), iface);
    });
  }
});

describe('an add', () => {
  it('reads as a deploy does', () => {
    const { verb, ...added } = parseCommand('add', bytes(FLEET_PAYLOAD), HOST) as AddCommand;
    const { verb: _, ...deployed } = deploy(FLEET_PAYLOAD);

    assert.equal(verb, 'add');
    assert.deepEqual(added, deployed);
  });
});

describe('a delete', () => {
  it('becomes the names to remove at each hook', () => {
    assert.deepEqual(parseCommand('delete', bytes(DELETE_PAYLOAD), HOST), {
      verb: 'delete',
      targets: [
        { hook: { iface: 'eth1', direction: 'xdpingress' }, names: ['connection-limit'] },
        { hook: { iface: 'eth1', direction: 'egress' }, names: ['ipfix-flow-exporter'] },
      ],
    });
  });
});
