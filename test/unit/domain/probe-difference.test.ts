import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LoadedProbes } from '../../../src/domain/observed.js';
import { probeDifferencesOf } from '../../../src/domain/probe-difference.js';
import { contentDigest, type Program } from '../../../src/domain/program.js';
import { program } from '../../support/chains.js';

const probe = (name: string, changes: Partial<Program> = {}): Program => program(name, 0, { mapName: '', ...changes });
const [A, B] = [probe('a'), probe('b')];

function load(wanted: Program, changes: Partial<LoadedProbes> = {}): LoadedProbes {
  const { name, version } = wanted;
  return {
    name,
    versionSegment: version.replaceAll('.', '_'),
    digest: contentDigest(wanted),
    serial: 1,
    dir: `/${name}`,
    probes: [{ function: 'on_event', programId: 1, linkId: 2 }],
    maps: [],
    lostMaps: [],
    ...changes,
  };
}

/** Kind, program and sentence of each difference. */
const told = (wanted: readonly Program[], standing: readonly LoadedProbes[]) =>
  probeDifferencesOf(wanted, standing).map(({ kind, programs, text }) => [kind, programs.join(), text]);

describe('probes', () => {
  it('do not differ if each desired one is attached', () => {
    assert.deepEqual(told([A, B], [load(A), load(B)]), []);
    assert.deepEqual(told([probe('a', { enabled: false })], []), []);
  });

  for (const [what, wanted, standing, expected] of [
    ['are missing', [A, B], [load(A)], ['missing', 'b', 'b 1.0 is desired, but not attached']],
    ['are not desired', [], [load(A)], ['extra', 'a', 'a 1_0 is attached, but not desired']],
    [
      'are disabled',
      [probe('a', { enabled: false })],
      [load(A)],
      ['disabled', 'a', 'a 1.0 is attached, though it is disabled'],
    ],
    [
      'are of another version',
      [probe('a', { version: '2.0' })],
      [load(A)],
      ['version', 'a', 'a runs as 1_0, but 2.0 is desired'],
    ],
    ['are of other code', [A], [load(A, { digest: 'other' })], ['version', 'a', 'a 1.0 does not run the desired code']],
    [
      'are there twice',
      [A],
      [load(A, { digest: 'other' }), load(A)],
      ['extra', 'a', 'a 1.0 is attached, but not desired'],
    ],
    [
      'have lost a link',
      [A],
      [load(A, { probes: [{ function: 'on_event', programId: 1, linkId: undefined }] })],
      ['detached', 'a', 'on_event of a 1.0 is not attached'],
    ],
    [
      'have lost the pin of a program',
      [A],
      [load(A, { probes: [{ function: 'on_event', programId: undefined, linkId: 2 }] })],
      ['missing', 'a', 'on_event of a 1.0 is attached, but its program is not pinned'],
    ],
  ] as const) {
    it(`differ if they ${what}`, () => assert.deepEqual(told(wanted, standing), [expected]));
  }
});
