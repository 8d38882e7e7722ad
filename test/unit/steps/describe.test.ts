import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { describeStep } from '../../../src/steps/describe.js';
import type { WriteMapStep } from '../../../src/steps/step.js';

const key = '00';

/** A step that writes and deletes the given numbers of entries. */
function changes(set: number, remove: number): WriteMapStep {
  return {
    op: 'write-map',
    map: '/bpf/progs/eth1/port-drop/1_0/xdpingress-00-1/maps/drop_ports',
    set: Array.from({ length: set }, () => ({ key, value: key })),
    remove: Array.from({ length: remove }, () => key),
    path: '0.bpf_programs.xdp_ingress.0.map_args.0',
  };
}

describe('the description of a step', () => {
  for (const [set, remove, words] of [
    [1, 0, 'write 1 entry'],
    [2, 0, 'write 2 entries'],
    [0, 1, 'delete 1 entry'],
    [1, 1, 'write 1 entry and delete 1 entry'],
    [1, 3, 'write 1 entry and delete 3 entries'],
  ] as const) {
    it(`counts correctly: ${words}`, () => {
      assert.equal(describeStep(changes(set, remove)), `${words} of drop_ports in port-drop 1_0 #1`);
    });
  }
});
