import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Delivery } from '../../../src/bus/delivery.js';
import type { Reading } from '../../../src/commands/reading.js';
import { beginReplay, type Replay, type ReplayState } from '../../../src/commands/replay.js';
import type { Command } from '../../../src/domain/command.js';
import { type DesiredState, programsAt } from '../../../src/domain/desired.js';
import type { ChainHook } from '../../../src/domain/hook.js';
import { desiredAt, program } from '../../support/chains.js';

const hook: ChainHook = { iface: 'eth1', direction: 'xdpingress' };
const NOTHING_KNOWN: ReplayState = { desired: null, generation: undefined, awaitingDeploy: undefined };

function delivery(seq: number, verb: string): Delivery {
  const [body, storedAt] = [new Uint8Array(), '2026-01-01T00:00:00.000Z'];
  const headers = { gen: undefined, prevGen: undefined, expires: undefined };
  return { id: `c${seq}`, verb, body, seq, storedAt, ...headers, streamCreated: 'A' };
}

function read(seq: number, command: Command, headers: { gen?: number; prevGen?: number } = {}) {
  const envelope = { gen: headers.gen, prevGen: headers.prevGen, expires: undefined };
  return { delivery: delivery(seq, command.verb), reading: { ok: true as const, envelope, command } };
}

const deploy = (...names: string[]): Command => ({
  verb: 'deploy',
  ...desiredAt(hook, ...names.map((name, n) => program(name, n + 1))),
});
const add = (name: string, seqId: number): Command => ({ verb: 'add', ...desiredAt(hook, program(name, seqId)) });
const remove = (name: string): Command => ({ verb: 'delete', targets: [{ hook, names: [name] }] });

function replay(
  readings: readonly { readonly delivery: Delivery; readonly reading: Reading }[],
  accept: (desired: DesiredState) => void = () => {},
): Replay {
  const replaying = beginReplay(NOTHING_KNOWN, 0, accept);
  for (const { delivery, reading } of readings) replaying.take(delivery, reading);
  return replaying.result();
}

describe('replay', () => {
  it('folds a backlog into the state that running the commands one by one would give', () => {
    const readings = [read(1, deploy('a', 'b')), read(2, add('c', 3)), read(3, remove('a'))];
    const result = replay(readings);
    assert.deepEqual(
      programsAt(result.desired!, hook).map(({ name }) => name),
      ['b', 'c'],
    );
    assert.equal(result.last?.entry.delivery.seq, 3);
  });

  it('rejects unreadable and conflicting commands, and folds the rest', () => {
    const unreadable = {
      delivery: delivery(2, 'add'),
      reading: {
        ok: false as const,
        envelope: { gen: undefined, prevGen: undefined, expires: undefined },
        error: new Error(),
      },
    };
    const result = replay([read(1, deploy('a')), unreadable, read(3, add('b', 1))]);
    assert.deepEqual(
      result.entries.map(({ what }) => what),
      ['folded', 'rejected', 'rejected'],
    );
    assert.equal(result.last?.entry.delivery.seq, 1);
  });

  it('refuses a delta after a missing generation, and what builds on it, until the next deploy', () => {
    const readings = [
      read(1, deploy('a'), { gen: 1 }),
      read(2, add('c', 3), { gen: 3, prevGen: 2 }),
      read(3, add('d', 4), { gen: 4, prevGen: 3 }),
      read(4, deploy('z'), { gen: 5 }),
      read(5, add('y', 2), { gen: 6, prevGen: 5 }),
    ];
    const result = replay(readings);
    assert.deepEqual(
      result.entries.map(({ what }) => what),
      ['folded', 'refused', 'refused', 'folded', 'folded'],
    );
    assert.equal(result.generation, 6);
  });

  it('does not fold a command whose result is impossible', () => {
    const result = replay([read(1, deploy('a')), read(2, add('b', 2))], ({ chains }) => {
      if (chains[0]!.programs.length > 1) throw new Error('too many');
    });
    assert.deepEqual(
      result.entries.map(({ what }) => what),
      ['folded', 'rejected'],
    );
    assert.deepEqual(
      programsAt(result.desired!, hook).map(({ name }) => name),
      ['a'],
    );
  });
});
