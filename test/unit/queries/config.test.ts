import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCommand } from '../../../src/messages/parse.js';
import { configView } from '../../../src/queries/views.js';
import { payloadProgram } from '../../support/packages.js';

const HOST = 'web1';

function deploy(payload: unknown) {
  const command = parseCommand('deploy', Buffer.from(JSON.stringify(payload)), HOST);
  assert.ok(command.verb === 'deploy');
  return command;
}

test('what config tells can be deployed, and is what is desired, on a host with very much', () => {
  const chain = Array.from({ length: 33 }, (_, index) =>
    payloadProgram('xdp-mark-1', { name: `m${index}`, seq_id: index }),
  );
  const { prog_type: _, map_name: __, ...probe } = payloadProgram('port-count');
  const probes = Array.from({ length: 70 }, (_, index) => ({ ...probe, name: `probe${index}`, map_args: [] }));
  const interfaces = Array.from({ length: 200 }, (_, index) => ({
    host_name: HOST,
    iface: `eth${index}`,
    ipv4_address: `10.0.${index}.1`,
    bpf_programs: {
      xdp_ingress: index === 7 ? chain : [payloadProgram('xdp-mark-1')],
      tc_egress: [payloadProgram('tc-count')],
    },
  }));
  const group = {
    host_name: HOST,
    iface: '/a.slice',
    bpf_programs: { cgroup_skb_egress: [payloadProgram('skb-count')], probes },
  };
  const desired = deploy([...interfaces, group]);

  const told = configView(desired, HOST);

  const again = deploy(told);
  assert.deepEqual(configView(again, HOST), told);
  assert.equal(again.chains.length, 401);
  assert.deepEqual(
    [again.probes?.length, again.chains.find(({ programs }) => programs.length > 1)?.programs.length],
    [70, 33],
  );
  assert.deepEqual(again.addresses, desired.addresses);
});
