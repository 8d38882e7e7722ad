import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isOurs, type Kind } from '../../support/kernel-ids.js';

/** The folder of a run. Only its name matters. */
const RUN = '/tmp/l3af-tests-abc';
const FOREIGN = 'process 1 (init)';

/** @param holders the holders of `kind 1`, and the holders of those */
function belongs(kind: Kind, holders: Readonly<Record<string, readonly string[]>>): boolean {
  return isOurs(kind, 1, new Map(Object.entries(holders)), RUN);
}

describe('an object of the kernel belongs to this test run', () => {
  for (const [what, kind, holders] of [
    ['if it is pinned in the folder of the run', 'prog', { 'prog 1': [`the pin ${RUN}/l3af-bpffs-x/progs/a/prog`] }],
    ['if a link of the run holds it', 'prog', { 'prog 1': ['link 2'], 'link 2': [`the pin ${RUN}/x/link`] }],
    ['if a program of the run uses it', 'map', { 'map 1': ['program 2 (mark)'], 'prog 2': [`the pin ${RUN}/x/prog`] }],
    ['if it is a program without a known holder', 'prog', { 'prog 1': [] }],
    ['if the run holds it and a foreign process has it open', 'map', { 'map 1': [FOREIGN, `the pin ${RUN}/x/map`] }],
    ['if nothing is known about its holder', 'map', { 'map 1': ['program 2 (mark)'] }],
  ] as const) {
    it(what, () => assert.equal(belongs(kind, holders), true));
  }
});

describe('an object of the kernel is foreign', () => {
  for (const [what, kind, holders] of [
    ['if a foreign process has it open', 'map', { 'map 1': [FOREIGN] }],
    ['if it is pinned elsewhere', 'prog', { 'prog 1': ['the pin /sys/fs/bpf/theirs'] }],
    ['if it is pinned in the folder of another run', 'prog', { 'prog 1': [`the pin ${RUN}d/x/prog`] }],
    ['if a foreign link holds it', 'prog', { 'prog 1': ['link 2'], 'link 2': [FOREIGN] }],
    ['if it is a map without a holder, which may be the kernel’s own', 'map', { 'map 1': [] }],
  ] as const) {
    it(what, () => assert.equal(belongs(kind, holders), false));
  }
});
