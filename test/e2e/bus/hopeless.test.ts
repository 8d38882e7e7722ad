import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FleetClient } from '../../../src/client/fleet-client.js';
import { givenBusBed, HOST, onXdp } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';

/*
 * A host without a record finds a deploy that is valid but cannot be carried out.
 */

test('an agent finds the last deploy that can be carried out, before one that cannot', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  await controller.createStreams();
  const hopeless = { ...payloadProgram('rate-limit', { seq_id: 1 }), entry_function_name: 'nobody' };
  const ids = await controller.publishAll([
    ['deploy', onXdp(payloadProgram('port-count', { seq_id: 1 }))],
    ['add', onXdp(payloadProgram('port-drop', { seq_id: 2 }))],
    ['deploy', onXdp(hopeless)],
    ['add', onXdp(payloadProgram('rate-limit', { seq_id: 3 }))],
  ]);

  const agent = bed.agent();
  await agent.start();
  const acks = await Promise.all(ids.map((id) => controller.ackOf(id)));

  assert.deepEqual(
    acks.map(({ verb, status, code }) => [verb, status, code]),
    [
      ['deploy', 'superseded', 'SUPERSEDED'],
      ['add', 'applied', undefined],
      ['deploy', 'failed', 'ENTRY_FUNCTION_NOT_FOUND'],
      ['add', 'applied', undefined],
    ],
  );
  const fleet = await FleetClient.connect({ servers: [bed.server.url] });
  t.after(() => fleet.close());
  const { programs } = await fleet.programs(HOST);
  assert.deepEqual(
    programs.map(({ name }) => name),
    ['port-count', 'port-drop', 'rate-limit'],
  );
});
