import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Generation, ObservedProbe } from '../../../src/domain/observed.js';
import { contentDigest } from '../../../src/domain/program.js';
import { planMoves } from '../../../src/plan/donors.js';
import { program } from '../../support/chains.js';

const WANTED = program('a', 1);
const ATTACHED: ObservedProbe = { function: 'on_event', programId: 7, linkId: 8 };

function generation(serial: number, mapId: number, probes: readonly ObservedProbe[]): Generation {
  return {
    hook: { iface: 'eth1', direction: 'xdpingress' },
    name: WANTED.name,
    versionSegment: '1_0',
    digest: contentDigest(WANTED),
    serial,
    dir: `/bpf/${serial}`,
    programId: 100 + serial,
    slot: undefined,
    maps: [{ name: 'counts', id: mapId, type: 1, keySize: 4, valueSize: 8, maxEntries: 1 }],
    ...(probes.length > 0 && { probes }),
  };
}

const movesTo = (taker: Generation, ...others: Generation[]) =>
  planMoves([{ program: WANTED, dir: taker.dir, inherited: { from: taker, maps: taker.maps } }], [taker, ...others]);

describe('probes beside a program', () => {
  it('are fetched by the load that runs where an agent has died before it handed them on', () => {
    const moves = movesTo(generation(2, 300, []), generation(1, 300, [ATTACHED]));
    assert.deepEqual(moves, [{ op: 'move-probes', from: '/bpf/1', to: '/bpf/2' }]);
  });

  it('stay where they are as long as their program does', () => {
    assert.deepEqual(movesTo(generation(2, 300, [ATTACHED]), generation(1, 300, [ATTACHED])), []);
  });

  it('are not taken over with other maps, nor where some are not attached', () => {
    assert.deepEqual(movesTo(generation(2, 300, []), generation(1, 301, [ATTACHED])), []);
    assert.deepEqual(movesTo(generation(2, 300, []), generation(1, 300, [{ ...ATTACHED, linkId: undefined }])), []);
  });
});
