import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LoadedProgram, ObservedProbe } from '../../../src/domain/observed.js';
import { contentDigest } from '../../../src/domain/program.js';
import { planMoves } from '../../../src/plan/chain/donors.js';
import { program } from '../../support/chains.js';

const WANTED = program('a', 1);
const ATTACHED: ObservedProbe = { function: 'on_event', programId: 7, linkId: 8 };

function loaded(serial: number, mapId: number, probes: readonly ObservedProbe[]): LoadedProgram {
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

const movesTo = (taker: LoadedProgram, ...others: LoadedProgram[]) =>
  planMoves([{ program: WANTED, dir: taker.dir, inherited: { from: taker, maps: taker.maps } }], [taker, ...others]);

describe('probes beside a program', () => {
  it('are taken over by the running load if an agent has died before it moved them', () => {
    const moves = movesTo(loaded(2, 300, []), loaded(1, 300, [ATTACHED]));
    assert.deepEqual(moves, [{ op: 'move-probes', from: '/bpf/1', to: '/bpf/2' }]);
  });

  it('stay where they are while their program stays', () => {
    assert.deepEqual(movesTo(loaded(2, 300, [ATTACHED]), loaded(1, 300, [ATTACHED])), []);
  });

  it('are not taken over if the maps differ or if some are not attached', () => {
    assert.deepEqual(movesTo(loaded(2, 300, []), loaded(1, 301, [ATTACHED])), []);
    assert.deepEqual(movesTo(loaded(2, 300, []), loaded(1, 300, [{ ...ATTACHED, linkId: undefined }])), []);
  });
});
