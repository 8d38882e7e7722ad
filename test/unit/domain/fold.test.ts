import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Command } from '../../../src/domain/command.js';
import { type DesiredState, NOTHING_DESIRED, programsAt } from '../../../src/domain/desired.js';
import { fold } from '../../../src/domain/fold.js';
import type { ChainHook } from '../../../src/domain/hook.js';
import type { Program } from '../../../src/domain/program.js';
import { RefusedError } from '../../../src/errors.js';
import { desiredAt, program } from '../../support/chains.js';

const eth0: ChainHook = { iface: 'eth0', direction: 'xdpingress' };
const eth1: ChainHook = { iface: 'eth1', direction: 'egress' };

function add(hook: ChainHook, ...programs: Program[]): Command {
  return { verb: 'add', ...desiredAt(hook, ...programs) };
}

function namesAt(desired: DesiredState, hook: ChainHook): string[] {
  return programsAt(desired, hook).map(({ name }) => name);
}

function codesOf(before: DesiredState, command: Command): string[] {
  try {
    fold(before, command);
    return [];
  } catch (error) {
    assert.ok(error instanceof RefusedError);
    return error.faults.map(({ code, path }) => `${code} ${path}`);
  }
}

describe('fold', () => {
  it('treats a deploy as the whole state of the host', () => {
    const before = desiredAt(eth0, program('a', 1));
    const after = fold(before, { verb: 'deploy', ...desiredAt(eth1, program('b', 1)) });
    assert.deepEqual([namesAt(after, eth0), namesAt(after, eth1)], [[], ['b']]);
  });

  it('adds at the requested seq_id and leaves other interfaces alone', () => {
    const before = fold(desiredAt(eth0, program('a', 1), program('c', 3)), add(eth1, program('x', 1)));
    const after = fold(before, add(eth0, program('b', 2)));
    assert.deepEqual([namesAt(after, eth0), namesAt(after, eth1)], [['a', 'b', 'c'], ['x']]);
  });

  it('treats an existing program with the same content as no change, even if zero values are left out', () => {
    const before = desiredAt(eth0, program('a', 1, { payload: { name: 'a', seq_id: 1, cmd_start: '', map_args: [] } }));
    const again = program('a', 1, { payload: { seq_id: 1, name: 'a' } });
    assert.deepEqual(fold(before, add(eth0, again)), before);
  });

  it('refuses a program of the same name with other content, with its path', () => {
    const before = desiredAt(eth0, program('a', 1));
    const other = program('a', 1, { payload: { name: 'a', seq_id: 1, version: '9' } });
    assert.deepEqual(codesOf(before, add(eth0, other)), [`NAME_CONFLICT ${other.path}`]);
  });

  it('refuses a seq_id that is taken, with its path', () => {
    const before = desiredAt(eth0, program('a', 1));
    const late = program('b', 1);
    assert.deepEqual(codesOf(before, add(eth0, late)), [`SEQ_ID_TAKEN ${late.path}.seq_id`]);
  });

  it('deletes by name at the named hook; a name that does not exist changes nothing', () => {
    const before = fold(desiredAt(eth0, program('a', 1), program('b', 2)), add(eth1, program('a', 1)));
    const command: Command = { verb: 'delete', targets: [{ hook: eth0, names: ['a', 'nobody'] }] };
    const after = fold(before, command);
    assert.deepEqual([namesAt(after, eth0), namesAt(after, eth1)], [['b'], ['a']]);
  });

  it('keeps no empty chain', () => {
    const command: Command = { verb: 'delete', targets: [{ hook: eth0, names: ['a'] }] };
    assert.deepEqual(fold(desiredAt(eth0, program('a', 1)), command), NOTHING_DESIRED);
  });
});
