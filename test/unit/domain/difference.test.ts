import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { differencesOf } from '../../../src/domain/difference.js';
import type { Attachment, LoadedProgram } from '../../../src/domain/observed.js';
import { contentDigest, type Program } from '../../../src/domain/program.js';
import { program } from '../../support/chains.js';

const hook = { iface: 'eth1', direction: 'xdpingress' } as const;
const root = { name: 'xdp-root', digest: '0'.repeat(16) };
const [A, B, C] = [program('a', 10), program('b', 20), program('c', 30)];

/** A loaded program with an id. {@link chained} makes its slot name the next one. */
function loaded(name: string, digest: string, versionSegment = '1_0'): LoadedProgram {
  const slot = { mapId: 0, next: null };
  return { hook, name, versionSegment, digest, serial: 1, dir: `/${name}`, programId: undefined, slot, maps: [] };
}

const loadedRoot = loaded('xdp-root', root.digest, 'latest');
const running = (wanted: Program) => loaded(wanted.name, contentDigest(wanted), wanted.version.replaceAll('.', '_'));

/** Programs 1, 2, 3 …, each slot naming the next; the last one as given. */
function chained(list: readonly LoadedProgram[], end: number | null = null): LoadedProgram[] {
  return list.map((one, index) => ({
    ...one,
    programId: index + 1,
    slot: { mapId: 100 + index, next: index + 1 < list.length ? index + 2 : end },
  }));
}

const LINK: Attachment = { kind: 'xdp', linkPin: '/link', linkId: 1, programId: 1, attached: true };

interface Given {
  readonly wanted: readonly Program[];
  readonly standing: readonly LoadedProgram[];
  readonly end?: number | null;
  readonly attachments?: readonly Attachment[];
  readonly present?: boolean;
  readonly chaining?: boolean;
}

function told({
  wanted,
  standing,
  end = null,
  attachments = [LINK],
  present = true,
  chaining = true,
}: Given): string[] {
  const observed = { hook, attachments, loadedPrograms: chained(standing, end) };
  const differences = differencesOf({ hook, wanted, observed, present, root: chaining ? root : undefined });
  return differences.map(({ kind, programs, text }) => `${[kind, ...programs].join(' ')}: ${text}`);
}

const asDesired = [loadedRoot, running(A), running(B), running(C)];
const wanted = [A, B, C];

describe('a chain differs from what is desired', () => {
  it('in nothing if it is as desired', () => {
    assert.deepEqual(told({ wanted, standing: asDesired }), []);
    assert.deepEqual(told({ wanted: [], standing: [], attachments: [] }), []);
    assert.deepEqual(told({ wanted: [{ ...A, enabled: false }], standing: [], attachments: [] }), []);
    assert.deepEqual(told({ wanted: [A], standing: [running(A)], chaining: false }), []);
  });

  it('by a program that is missing', () => {
    assert.deepEqual(told({ wanted, standing: [loadedRoot, running(A), running(C)] }), [
      'missing b: b 1.0 is desired, but no packet passes it',
    ]);
  });

  it('by an extra program, or one that should be disabled', () => {
    assert.deepEqual(told({ wanted: [A, { ...C, enabled: false }], standing: asDesired }), [
      'extra b: b 1_0 runs, but is not desired',
      'disabled c: c 1.0 runs, though it is disabled',
    ]);
    assert.deepEqual(told({ wanted: [], standing: [loadedRoot, running(A)] }), [
      'extra xdp-root: xdp-root latest runs, but is not desired',
      'extra a: a 1_0 runs, but is not desired',
    ]);
  });

  it('by another version, or other code under the same version', () => {
    const newer = { ...B, version: '2.0' };
    assert.deepEqual(told({ wanted: [A, newer, C], standing: asDesired }), [
      'version b: b runs as 1_0, but 2.0 is desired',
    ]);
    assert.deepEqual(told({ wanted: [A, { ...B, artifact: 'other.zip' }, C], standing: asDesired }), [
      'version b: b 1.0 does not run the desired code',
    ]);
  });

  it('by its order', () => {
    assert.deepEqual(told({ wanted, standing: [loadedRoot, running(A), running(C), running(B)] }), [
      'order c b: The order is a, c, b, but a, b, c is desired',
    ]);
  });

  it('by its root', () => {
    assert.deepEqual(told({ wanted: [A], standing: [running(A)] }), [
      'root xdp-root: The chain does not begin with xdp-root',
    ]);
    assert.deepEqual(told({ wanted: [A], standing: [loaded('xdp-root', 'f'.repeat(16)), running(A)] }), [
      'root xdp-root: The running xdp-root is not the configured one',
    ]);
  });

  it('by a slot that names a wrong program', () => {
    assert.deepEqual(told({ wanted: [A], standing: [loadedRoot, running(A)], end: 4711 }), [
      'slot a: The slot of a names program 4711, which is not ours',
    ]);
    assert.deepEqual(told({ wanted: [A], standing: [loadedRoot, running(A)], end: 2 }), [
      'slot a: The slot of a names program 2, which packets have already passed',
    ]);
  });

  it('by not being attached', () => {
    assert.deepEqual(told({ wanted, standing: asDesired, attachments: [] }), [
      'detached: The chain is not attached to eth1/xdpingress: no link holds it',
    ]);
    assert.deepEqual(told({ wanted, standing: asDesired, attachments: [{ ...LINK, attached: false }] }), [
      'detached: The chain is not attached to eth1/xdpingress: its link is detached',
    ]);
    assert.deepEqual(told({ wanted, standing: [], attachments: [], present: false }), [
      'interface-absent: This host has no interface eth1',
    ]);
  });
});
