import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { differencesOf } from '../../../src/domain/difference.js';
import type { Attachment, Generation } from '../../../src/domain/observed.js';
import { contentDigest, type Program } from '../../../src/domain/program.js';
import { program } from '../../support/chains.js';

const hook = { iface: 'eth1', direction: 'xdpingress' } as const;
const root = { name: 'xdp-root', digest: '0'.repeat(16) };
const [A, B, C] = [program('a', 10), program('b', 20), program('c', 30)];

/** A generation with an id; its slot names the next one, which {@link chained} sees to. */
function generation(name: string, digest: string, versionSegment = '1_0'): Generation {
  const slot = { mapId: 0, next: null };
  return { hook, name, versionSegment, digest, serial: 1, dir: `/${name}`, programId: undefined, slot, maps: [] };
}

const rootGeneration = generation('xdp-root', root.digest, 'latest');
const running = (wanted: Program) =>
  generation(wanted.name, contentDigest(wanted), wanted.version.replaceAll('.', '_'));

/** Programs 1, 2, 3 …, each slot naming the next; the last one as given. */
function chained(list: readonly Generation[], end: number | null = null): Generation[] {
  return list.map((one, index) => ({
    ...one,
    programId: index + 1,
    slot: { mapId: 100 + index, next: index + 1 < list.length ? index + 2 : end },
  }));
}

const LINK: Attachment = { kind: 'xdp', linkPin: '/link', linkId: 1, programId: 1, attached: true };

interface Given {
  readonly wanted: readonly Program[];
  readonly standing: readonly Generation[];
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
  const observed = { hook, attachments, generations: chained(standing, end) };
  const differences = differencesOf({ hook, wanted, observed, present, root: chaining ? root : undefined });
  return differences.map(({ kind, programs, text }) => `${[kind, ...programs].join(' ')}: ${text}`);
}

const asDesired = [rootGeneration, running(A), running(B), running(C)];
const wanted = [A, B, C];

describe('a chain differs from what is desired', () => {
  it('in nothing when it is so', () => {
    assert.deepEqual(told({ wanted, standing: asDesired }), []);
    assert.deepEqual(told({ wanted: [], standing: [], attachments: [] }), []);
    assert.deepEqual(told({ wanted: [{ ...A, enabled: false }], standing: [], attachments: [] }), []);
    assert.deepEqual(told({ wanted: [A], standing: [running(A)], chaining: false }), []);
  });

  it('by a program that is missing', () => {
    assert.deepEqual(told({ wanted, standing: [rootGeneration, running(A), running(C)] }), [
      'missing b: b 1.0 is desired, and no packet passes it',
    ]);
  });

  it('by one too many, or one that should be off', () => {
    assert.deepEqual(told({ wanted: [A, { ...C, enabled: false }], standing: asDesired }), [
      'extra b: b 1_0 runs, and is not desired',
      'disabled c: c 1.0 runs, though it is disabled',
    ]);
    assert.deepEqual(told({ wanted: [], standing: [rootGeneration, running(A)] }), [
      'extra xdp-root: xdp-root latest runs, and is not desired',
      'extra a: a 1_0 runs, and is not desired',
    ]);
  });

  it('by another version, or other code under the same version', () => {
    const newer = { ...B, version: '2.0' };
    assert.deepEqual(told({ wanted: [A, newer, C], standing: asDesired }), [
      'version b: b runs as 1_0, and 2.0 is desired',
    ]);
    assert.deepEqual(told({ wanted: [A, { ...B, artifact: 'other.zip' }, C], standing: asDesired }), [
      'version b: b 1.0 runs with other code than is desired',
    ]);
  });

  it('by its order', () => {
    assert.deepEqual(told({ wanted, standing: [rootGeneration, running(A), running(C), running(B)] }), [
      'order c b: The order is a, c, b, and a, b, c is desired',
    ]);
  });

  it('by its root', () => {
    assert.deepEqual(told({ wanted: [A], standing: [running(A)] }), [
      'root xdp-root: The chain does not begin with xdp-root',
    ]);
    assert.deepEqual(told({ wanted: [A], standing: [generation('xdp-root', 'f'.repeat(16)), running(A)] }), [
      'root xdp-root: Another xdp-root runs than the one that is configured',
    ]);
  });

  it('by a slot that leads astray', () => {
    assert.deepEqual(told({ wanted: [A], standing: [rootGeneration, running(A)], end: 4711 }), [
      'slot a: The slot of a names program 4711, which is none of ours',
    ]);
    assert.deepEqual(told({ wanted: [A], standing: [rootGeneration, running(A)], end: 2 }), [
      'slot a: The slot of a names program 2, which packets have passed already',
    ]);
  });

  it('by hanging nowhere', () => {
    assert.deepEqual(told({ wanted, standing: asDesired, attachments: [] }), [
      'detached: The chain is not attached to eth1/xdpingress: no link holds it',
    ]);
    assert.deepEqual(told({ wanted, standing: asDesired, attachments: [{ ...LINK, attached: false }] }), [
      'detached: The chain is not attached to eth1/xdpingress: its link is detached',
    ]);
    assert.deepEqual(told({ wanted, standing: [], attachments: [], present: false }), [
      'interface-absent: The interface eth1 does not exist',
    ]);
  });
});
