import assert from 'node:assert/strict';
import {
  closeSync,
  type Dirent,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { WatchedFolders } from '../../../../src/datapath/libbpf/pins/watched-folders.js';
import { type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { load, observed, PORT_COUNT, PORT_DROP, XDP_ROOT } from '../../../contract/samples.js';
import { repeats } from '../../../support/repeats.js';
import { mountBpffs } from '../../../support/testbed.js';
import { run } from '../../../support/tool.js';

/*
 * What the datapath remembers between two observations is what it would read. The fixture's datapath compares each of
 * its observations with one that remembers nothing.
 */

async function withKernel(play: (fixture: KernelFixture) => Promise<void>): Promise<void> {
  const fixture = await kernelFixture();
  try {
    await play(fixture);
  } finally {
    for (const entry of readdirSync(fixture.bpffs, { withFileTypes: true }).filter(isOurs)) {
      rmSync(join(fixture.bpffs, entry.name), { recursive: true, force: true });
    }
    await fixture.close();
  }
}

async function given(t: TestContext): Promise<{ readonly bpffs: string; readonly folders: WatchedFolders }> {
  const { path, unmount } = await mountBpffs();
  const folders = new WatchedFolders(path);
  t.after(async () => {
    folders.close();
    await unmount();
  });
  return { bpffs: path, folders };
}

/** Each bpffs has two iterators from the start. */
function isOurs({ name }: Dirent): boolean {
  return !name.endsWith('.debug');
}

/** All paths below a bpffs, directories first. */
function pathsBelow(bpffs: string): { readonly dirs: string[]; readonly pins: string[] } {
  const entries = readdirSync(bpffs, { recursive: true, withFileTypes: true }).filter(isOurs);
  const at = (entry: Dirent) => join(entry.parentPath, entry.name);
  const dirs = entries.filter((entry) => entry.isDirectory()).map(at);
  return { dirs: [bpffs, ...dirs], pins: entries.filter((entry) => entry.isFile()).map(at) };
}

type Act = (bpffs: string, a: number, b: number) => void;

/** What anybody can do to pins, by two random numbers. Some of it fails, for example a name that exists. */
const ACTS: Readonly<Record<string, Act>> = {
  unpin: (bpffs, a) => rmSync(pick(pathsBelow(bpffs).pins, a)),
  'remove a folder': (bpffs, a) => rmSync(pick(pathsBelow(bpffs).dirs.slice(1), a), { recursive: true }),
  'rename a pin': (bpffs, a, b) => {
    const { pins, dirs } = pathsBelow(bpffs);
    renameSync(pick(pins, a), join(pick(dirs, b), pick(['prog', 'slot', 'stage', 'a_map'], a + b)));
  },
  'put a pin in the place of another': (bpffs, a, b) => {
    const { pins } = pathsBelow(bpffs);
    renameSync(pick(pins, a), pick(pins, b));
  },
  'give a pin a second name': (bpffs, a, b) => {
    const { pins, dirs } = pathsBelow(bpffs);
    linkSync(pick(pins, a), join(pick(dirs, b), `other_${a % 3}`));
  },
  'move a folder': (bpffs, a, b) => {
    const { dirs } = pathsBelow(bpffs);
    renameSync(pick(dirs.slice(1), a), join(pick(dirs, b), `folder_${a % 3}`));
  },
  'move a folder away, and another to its place': (bpffs, a, b) => {
    const { dirs } = pathsBelow(bpffs);
    const [first, second] = [pick(dirs.slice(1), a), pick(dirs.slice(1), b)];
    renameSync(first, join(bpffs, 'aside'));
    renameSync(second, first);
  },
  'make a folder': (bpffs, a, b) => mkdirSync(join(pick(pathsBelow(bpffs).dirs, a), pick(['maps', 'probes', 'x'], b))),
};

function pick<T>(some: readonly T[], which: number): T {
  const found = some[which % some.length];
  if (found === undefined) throw new Error('there is none');
  return found;
}

test('what is remembered of pins is what is there, whatever anybody does to them', async () => {
  const acts = fc.array(fc.tuple(fc.constantFrom(...Object.keys(ACTS)), fc.nat(1000), fc.nat(1000)), {
    minLength: 8,
    maxLength: 25,
  });
  let done = 0;
  const play = async (sequence: readonly [string, number, number][], fixture: KernelFixture) => {
    for (const sample of [XDP_ROOT, PORT_COUNT, PORT_DROP]) await load(fixture, sample, 'xdpingress');
    for (const [act, a, b] of sequence) {
      try {
        ACTS[act]!(fixture.bpffs, a, b);
        done += 1;
      } catch {
        // Not possible here.
      }
      // Compared inside.
      await fixture.datapath.observe();
    }
  };
  const property = fc.asyncProperty(acts, (sequence) => withKernel((fixture) => play(sequence, fixture)));
  await fc.assert(property, { numRuns: repeats({ usual: 12, full: 60 }) });
  assert.ok(done > 50, `only ${done} acts were possible`);
});

test('a folder is listed again only after something in it has changed', async (t) => {
  const { bpffs, folders } = await given(t);
  const look = (dir: string) => {
    folders.refresh();
    return folders.entriesOf(join(bpffs, dir));
  };
  mkdirSync(join(bpffs, 'a/b'), { recursive: true });
  const [root, outer, inner, absent] = [look(''), look('a'), look('a/b'), look('a/b/c/d')];

  assert.deepEqual([look('') === root, look('a') === outer, look('a/b') === inner], [true, true, true]);
  assert.equal(look('a/b/c/d'), absent);
  mkdirSync(join(bpffs, 'a/b/c'));
  assert.deepEqual([look('a') === outer, look('a/b') === inner], [true, false]);
  assert.deepEqual(
    look('a/b').map(({ name }) => name),
    ['c'],
  );
});

test('a folder that somebody holds open is not taken for the one that was made in its place', async (t) => {
  const { bpffs, folders } = await given(t);
  const dir = join(bpffs, 'a/b');
  mkdirSync(dir, { recursive: true });
  const look = () => {
    folders.refresh();
    folders.entriesOf(join(bpffs, 'a'));
    return folders.entriesOf(dir).map(({ name }) => name);
  };
  assert.deepEqual(look(), []);
  // As long as it is open, the kernel does not report that it is gone.
  const held = openSync(dir, 'r');
  try {
    rmdirSync(dir);
    mkdirSync(join(dir, 'c'), { recursive: true });
    assert.deepEqual(look(), ['c']);
  } finally {
    closeSync(held);
  }
});

test('nothing is remembered of a bpffs over which another one is mounted', async (t) => {
  const { bpffs, folders } = await given(t);
  const look = () => {
    folders.refresh();
    return folders.entriesOf(bpffs).filter(isOurs).length;
  };
  mkdirSync(join(bpffs, 'a'));
  assert.equal(look(), 1);
  await run('mount', ['-t', 'bpf', 'bpf', bpffs]);
  assert.equal(look(), 0);
  await run('umount', [bpffs]);
  assert.equal(look(), 1);
});

test('what a slot names is read each time, since nothing reports it', async () => {
  await withKernel(async (fixture) => {
    const [root, program] = [
      await load(fixture, XDP_ROOT, 'xdpingress'),
      await load(fixture, PORT_COUNT, 'xdpingress'),
    ];
    const next = async () => (await observed(fixture, root))?.slot?.next;
    assert.equal(await next(), null);
    await fixture.datapath.setSlot(root.slot, program.program);
    assert.equal(await next(), (await observed(fixture, program))?.programId);
  });
});
