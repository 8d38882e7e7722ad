import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { type DesiredState, NOTHING_DESIRED, programsAt } from '../../../src/domain/desired.js';
import type { ChainHook } from '../../../src/domain/hook.js';
import { hookAt, liveSubchains, type Observed } from '../../../src/domain/observed.js';
import { contentDigest } from '../../../src/domain/program.js';
import type { Report } from '../../../src/reconcile/reconcile.js';
import { builtPackages, desiredAt, noCompanions, planContext, program } from '../../support/chains.js';
import { reconcile } from '../../support/in-turn.js';
import { repeats } from '../../support/repeats.js';

/*
 * TC chains in which programs without slot have successors: each of them passes packets on to the next TCX link.
 */

const BPFFS = '/bpffs';
const hook: ChainHook = { iface: 'veth0', direction: 'ingress' };
const context = planContext(BPFFS);

/** Short notation of a chain: `a b+ c@2.0` are three programs. Only b has a slot. */
function chain(words: string): DesiredState {
  const programs = words
    .split(' ')
    .filter((word) => word !== '')
    .map((word, index) => {
      const [, name, slot, version] = /^([a-z])(\+?)(?:@(.+))?$/.exec(word)!;
      const overrides = { version: version ?? '1.0', mapName: slot === '+' ? 'mark_next' : '' };
      return program(name!, index + 1, overrides, 'ingress');
    });
  return desiredAt(hook, ...programs);
}

/** What packets pass, link by link: `tc-root b a | c`. */
function pathOf(observed: Observed): string {
  const subchains = liveSubchains(hookAt(observed, hook));
  return subchains.map(({ programs }) => programs.map(({ name }) => name).join(' ')).join(' | ');
}

let datapath: MemoryDatapath;
beforeEach(() => {
  datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
});

interface Change {
  readonly report: Report;
  /** What packets could pass, beginning with the first write that they notice. */
  readonly paths: readonly string[];
}

async function change(from: DesiredState, to: DesiredState): Promise<Change> {
  const tools = { datapath, packages: builtPackages, companions: noCompanions };
  const paths: string[] = [];
  const report = await reconcile({ before: from, desired: to }, tools, context, async (_step, phase) => {
    const path = pathOf(await datapath.observe());
    if (phase !== 'prepare' && paths.at(-1) !== path) paths.push(path);
  });
  const path = pathOf(await datapath.observe());
  if (paths.at(-1) !== path) paths.push(path);
  return { report, paths };
}

async function idsByName(): Promise<Record<string, number | undefined>> {
  const subchains = liveSubchains(hookAt(await datapath.observe(), hook));
  return Object.fromEntries(subchains.flatMap(({ programs }) => programs.map((g) => [g.name, g.programId])));
}

describe('a chain of TC programs without slots', () => {
  /** From, to, and what packets pass at each moment of the change. */
  const changes: Record<string, readonly [from: string, to: string, paths: readonly string[]]> = {
    'is attached link by link': ['', 'a b c', ['', 'tc-root a', 'tc-root a | b', 'tc-root a | b | c']],
    'is removed from its end': ['a b', '', ['tc-root a | b', 'tc-root a', '']],
    'gets a program in between': ['a c', 'a b c', ['tc-root a | c', 'tc-root a | b | c']],
    'gets a program at its head': ['b c', 'a b c', ['tc-root b | c', 'tc-root b | b | c', 'tc-root a | b | c']],
    'gets a program at its tail': ['a b', 'a b c', ['tc-root a | b', 'tc-root a | b | c']],
    'loses its head': ['a b c', 'b c', ['tc-root a | b | c', 'tc-root b | b | c', 'tc-root b | c']],
    'loses a program in between': ['a b c', 'a c', ['tc-root a | b | c', 'tc-root a | c']],
    'loses its tail': ['a b c', 'a b', ['tc-root a | b | c', 'tc-root a | b']],
    'replaces its head': ['a b c', 'a@2.0 b c', ['tc-root a | b | c']],
    'replaces a program in between': ['a b c', 'a b@2.0 c', ['tc-root a | b | c']],
    'replaces a program by another one': ['a b c', 'a x c', ['tc-root a | b | c', 'tc-root a | x | c']],
    'exchanges the last two': ['a b c', 'a c b', ['tc-root a | b | c', 'tc-root a | c | b | c', 'tc-root a | c | b']],
  };
  for (const [what, [from, to, paths]] of Object.entries(changes)) {
    test(what, async () => {
      await change(NOTHING_DESIRED, chain(from));
      const before = await idsByName();

      const seen = await change(chain(from), chain(to));

      assert.equal(seen.report.status, 'applied', JSON.stringify(seen.report.faults));
      assert.deepEqual(seen.paths, paths);
      if (from === '' || to === '') return;
      const after = await idsByName();
      const loaded = Object.keys(after).filter((name) => after[name] !== before[name]);
      // New programs, and one of two that change places, because the kernel attaches a program only once.
      assert.equal(loaded.length, what.startsWith('loses') ? 0 : 1, loaded.join());
    });
  }
});

describe('a chain of programs with and without slots', () => {
  const changes: Record<string, readonly [from: string, to: string, paths: readonly string[]]> = {
    'is cut after each program without slot': ['', 'a+ b c+ d', ['', 'tc-root a b', 'tc-root a b | c d']],
    'is cut by an inserted program': [
      'a+ b+ c+',
      'a+ x b+ c+',
      ['tc-root a b c', 'tc-root a b c | b c', 'tc-root a x | b c'],
    ],
    'is joined where a program is removed': [
      'a+ x b+ c+',
      'a+ b+ c+',
      ['tc-root a x | b c', 'tc-root a b c | b c', 'tc-root a b c'],
    ],
    'keeps its cut where a program with a slot changes': ['a+ x b+ c+', 'a+@2.0 x b+ c+', ['tc-root a x | b c']],
    'moves a program over the cut': [
      'a+ b+ x c+',
      'a+ x b+ c+',
      ['tc-root a b x | c', 'tc-root a b x | b c | c', 'tc-root a x | b c | c', 'tc-root a x | b c'],
    ],
    'changes behind the cut by one write': [
      'a x b+ c+',
      'a x b+ d+ c+',
      ['tc-root a | x | b c', 'tc-root a | x | b d c'],
    ],
    'has its slots back': [
      'a b c',
      'a+ b+ c+',
      ['tc-root a | b | c', 'tc-root a b c | b | c', 'tc-root a b c | b', 'tc-root a b c'],
    ],
  };
  for (const [what, [from, to, paths]] of Object.entries(changes)) {
    test(what, async () => {
      await change(NOTHING_DESIRED, chain(from));

      const seen = await change(chain(from), chain(to));

      assert.equal(seen.report.status, 'applied', JSON.stringify(seen.report.faults));
      assert.deepEqual(seen.paths, paths);
    });
  }
});

describe('the reason of a plan', () => {
  const reasons: Record<string, readonly [from: string, to: string, reason: RegExp]> = {
    'reports more than one step': [
      'a+ b+',
      'a+ x b+',
      /in 2 steps.*may pass a program twice, but misses none that stays$/,
    ],
    'reports an added link': ['a b', 'a x b', /: loads 1 program and adds a link$/],
    'reports a removed link': ['a x b', 'a b', /: removes programs from the chain by removing their link$/],
    'reports a kept link': ['a b', 'a b@2.0', /: loads 1 program and replaces the attached program in one step$/],
    'reports the removal of all links': ['a b', '', /: removes the chain/],
  };
  for (const [what, [from, to, reason]] of Object.entries(reasons)) {
    test(what, async () => {
      await change(NOTHING_DESIRED, chain(from));
      assert.match((await change(chain(from), chain(to))).report.reasons[0]!, reason);
    });
  }
});

const wordsArbitrary = fc
  .uniqueArray(
    fc.record({
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
      slot: fc.constantFrom('+', '', ''),
      version: fc.constantFrom('', '@2.0'),
    }),
    { selector: ({ name }) => name, maxLength: 6 },
  )
  .map((members) => members.map(({ name, slot, version }) => name + slot + version).join(' '));

/** The path through the desired chain: `tc-root a | b`. */
function wantedPath(desired: DesiredState): string {
  const running = programsAt(desired, hook);
  const words = running.map(({ name, mapName }, index) => {
    const isLast = index === running.length - 1;
    return isLast ? name : `${name} ${mapName === '' ? '| ' : ''}`;
  });
  return running.length === 0 ? '' : `tc-root ${words.join('')}`;
}

test('at every moment of any change packets pass all programs that are in both chains, and none that is in neither', async () => {
  const states = fc.array(wordsArbitrary, { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(states, fc.nat(4), async (all, failing) => {
      datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
      const tools = { datapath, packages: builtPackages, companions: noCompanions };
      let before = NOTHING_DESIRED;
      for (const words of all) {
        const desired = chain(words);
        const [old, next] = [digests(before), digests(desired)];
        let commits = 0;
        const report = await reconcile({ before, desired }, tools, context, async (_step, phase) => {
          const passed = await passedDigests();
          for (const digest of old) assert.ok(!next.has(digest) || passed.has(digest), `missed on the way to ${words}`);
          for (const digest of passed) assert.ok(old.has(digest) || next.has(digest), 'a program of neither chain');
          if (phase === 'commit' && ++commits === failing) throw new Error('injected');
        });
        assert.equal(report.undone ?? true, true);
        if (report.status !== 'failed') before = desired;
        const observed = await datapath.observe();
        assert.equal(pathOf(observed), wantedPath(before));
        const { attachments, loadedPrograms } = hookAt(observed, hook);
        assert.deepEqual(await passedDigests(), digests(before));
        assert.equal(loadedPrograms.length, digests(before).size + (attachments.length === 0 ? 0 : 1), 'pinned');
      }
    }),
    { numRuns: repeats({ usual: 30, full: 150 }) },
  );
});

function digests(desired: DesiredState): Set<string> {
  return new Set(programsAt(desired, hook).map(contentDigest));
}

async function passedDigests(): Promise<Set<string>> {
  const subchains = liveSubchains(hookAt(await datapath.observe(), hook));
  const programs = subchains.flatMap((subchain) => subchain.programs).filter(({ name }) => name !== 'tc-root');
  return new Set(programs.map(({ digest }) => digest));
}

describe('a manual change of links', () => {
  const wanted = chain('a b+ c d');
  const repaired = 'tc-root a | b c | d';
  const linkAt = async (index: number) => hookAt(await datapath.observe(), hook).attachments[index]!.linkPin;

  for (const [index, which] of ['first', 'middle', 'last'].entries()) {
    test(`is repaired if the ${which} link is gone`, async () => {
      await change(NOTHING_DESIRED, wanted);
      await datapath.detach(hook, await linkAt(index));

      const { report } = await change(wanted, wanted);

      assert.equal(report.status, 'applied');
      assert.equal(pathOf(await datapath.observe()), repaired);
    });
  }

  test('is repaired if two links have changed places', async () => {
    await change(NOTHING_DESIRED, wanted);
    const before = hookAt(await datapath.observe(), hook);
    const { dir } = liveSubchains(before)[1]!.programs[0]!;
    const [, moved, last] = before.attachments.map(({ linkPin }) => linkPin) as [string, string, string];
    await datapath.detach(hook, moved);
    await datapath.attach(hook, `${dir}/prog`, moved, { side: 'behind', link: last });
    assert.equal(pathOf(await datapath.observe()), 'tc-root a | d | b c');

    await change(wanted, wanted);

    assert.equal(pathOf(await datapath.observe()), repaired);
  });

  test('is repaired if all links are gone, with the programs that are still pinned', async () => {
    await change(NOTHING_DESIRED, wanted);
    const before = await idsByName();
    for (const { linkPin } of hookAt(await datapath.observe(), hook).attachments) await datapath.detach(hook, linkPin);

    await change(wanted, wanted);

    assert.equal(pathOf(await datapath.observe()), repaired);
    assert.deepEqual(await idsByName(), before);
  });
});
