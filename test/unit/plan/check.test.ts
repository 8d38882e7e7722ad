import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { AttachPointName, ChainHook } from '../../../src/domain/hook.js';
import type { Observed } from '../../../src/domain/observed.js';
import { absentInterfaces, check } from '../../../src/plan/check.js';
import { desiredAt, program } from '../../support/chains.js';

const hook: ChainHook = { iface: 'eth1', direction: 'xdpingress' };
const CHAINED = { chaining: true, ordered: new Set<AttachPointName>(['ingress', 'egress']) };
const UNCHAINED = { chaining: false, ordered: new Set<AttachPointName>(['ingress', 'egress']) };
const codes = (...args: Parameters<typeof check>) => check(...args).map(({ code, path }) => `${code} ${path}`);

describe('check of a desired state', () => {
  it('allows only the last running program to have no slot', () => {
    const [first, last] = [program('a', 1, { mapName: '' }), program('b', 2, { mapName: '' })];
    assert.deepEqual(codes(desiredAt(hook, first, last), CHAINED), [`INVALID_FIELD ${first.path}.map_name`]);
    assert.deepEqual(codes(desiredAt(hook, first, { ...last, enabled: false }), CHAINED), []);
  });

  it('limits a chain to the tail calls that the kernel allows', () => {
    const many = Array.from({ length: 34 }, (_, n) => program(`p${n}`, n + 1));
    assert.deepEqual(codes(desiredAt(hook, ...many.slice(0, 33)), CHAINED), []);
    const tooMany = [`INVALID_FIELD ${many[33]!.path}`];
    assert.deepEqual(codes(desiredAt(hook, ...many), CHAINED), tooMany);
    const disabled = many.map((one) => ({ ...one, enabled: false }));
    assert.deepEqual(codes(desiredAt(hook, ...disabled), CHAINED), tooMany, 'disabled ones count');
  });

  it('refuses a second running program while chaining is off', () => {
    const second = program('b', 2);
    assert.deepEqual(codes(desiredAt(hook, program('a', 1), second), UNCHAINED), [`CHAINING_OFF ${second.path}`]);
    assert.deepEqual(codes(desiredAt(hook, program('a', 1), { ...second, enabled: false }), UNCHAINED), []);
  });
});

describe('absentInterfaces', () => {
  const observed: Observed = { hooks: [], interfaces: new Map([['eth0', 2]]), publicMaps: new Map() };

  it('reports each absent interface once, with its path in the payload', () => {
    const desired = desiredAt(hook, program('a', 1), program('b', 2));
    const faults = absentInterfaces(desired, observed);
    assert.deepEqual(
      faults.map(({ code, path }) => `${code} ${path}`),
      ['INTERFACE_NOT_FOUND 0.iface'],
    );
  });

  it('does not need an interface without enabled programs', () => {
    assert.deepEqual(absentInterfaces(desiredAt(hook, program('a', 1, { enabled: false })), observed), []);
  });
});
