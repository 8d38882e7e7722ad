import assert from 'node:assert/strict';
import { link, mkdir, readdir, rm, rmdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { assertChain, assertLinked, marks } from '../support/chain.js';
import { bpftool, type Chain } from '../support/kernel.js';
import { Stage } from '../support/stage.js';

/*
 * Somebody replaces pins of the agent by other things. The agent still sees everything else, and repairs each place,
 * whatever is there.
 */

const NAMES = ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0'];

/** What is put in the place of a pin; `path` is free. `like` is the pin of a program of the chain. */
const THINGS: Readonly<Record<string, (path: string, like: string) => Promise<unknown>>> = {
  'a directory with a map in it': async (path) => {
    await mkdir(path);
    await createMap(join(path, 'inner'), 4);
  },
  // Whoever mistakes it for a slot has the kernel write beyond the buffer.
  'an array of great values': (path) => createMap(path, 65_536),
  'a program': (path, like) => link(like, path),
  'a symbolic link to itself': (path) => symlink(path, path),
  'a symbolic link to a file': (path) => symlink('/proc/self/status', path),
};

function createMap(path: string, valueBytes: number) {
  const shape = ['type', 'array', 'key', '4', 'value', String(valueBytes), 'entries', '1', 'name', 'hostile'];
  return bpftool('map', 'create', path, ...shape);
}

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'hostile-pins', env: { L3AF_RECONCILE_INTERVAL: '200ms' } });
});
after(() => stage.close());

let chain: Chain;
let linkPin: string;
beforeEach(async () => {
  await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });
  chain = await assertLinked(stage, NAMES);
  linkPin = (await stage.kernel()).links.find(({ id }) => id === chain.linkId)!.pin;
});

/** Does something behind the agent's back, and waits for the report of the repair. */
async function repaired(act: () => Promise<unknown>): Promise<void> {
  const events = stage.nats.subscribe('l3af.evt.hostile-pins.drift-repaired', { max: 1, timeout: 20_000 });
  await stage.nats.flush();
  await stage.agent.whileHalted(act);
  for await (const _ of events) return;
}

const PLACES: Readonly<Record<string, () => string>> = {
  program: () => `${chain.members[2]!.dir}/prog`,
  slot: () => `${chain.members[2]!.dir}/slot`,
  'data map': () => `${chain.members[2]!.dir}/maps/mark_packets`,
  link: () => linkPin,
};

for (const [place, pathOf] of Object.entries(PLACES)) {
  describe(`in the place of a ${place}`, () => {
    for (const [thing, put] of Object.entries(THINGS)) {
      if (place === 'program' && thing === 'a program') continue;
      test(`${thing} is removed and the pin restored`, async () => {
        const path = join(stage.bpffs, pathOf());
        const like = join(stage.bpffs, chain.members[1]!.dir, 'prog');

        await repaired(async () => {
          await rm(path);
          await put(path, like);
        });

        await assertLinked(stage, NAMES);
        await assertChain(stage, NAMES);
        assert.equal((await stage.deploy({ xdp_ingress: marks([1, 2, 3]) })).status, 'unchanged');
      });
    }
  });
}

describe('in the place of a public name', () => {
  const name = () => stage.xdpMap('xdp-mark-2', '1.0', 'mark_packets');

  test('a link to itself is replaced by the name again', async () => {
    await repaired(async () => {
      await rm(name());
      await symlink(name(), name());
    });

    await assertChain(stage, NAMES);
  });

  test('a directory stays and is reported, and no other name of the map is left beside it', async () => {
    await stage.agent.whileHalted(async () => {
      await rm(name());
      await mkdir(name());
    });

    const answer = await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });

    assert.match(answer.message ?? '', /Cannot publish .*mark_packets \(EISDIR/);
    assert.deepEqual(
      (await readdir(dirname(name()))).filter((entry) => entry.includes('%')),
      [],
    );
    await repaired(() => rmdir(name()));
    await assertChain(stage, NAMES);
  });
});

test('a link with the name of a loaded program is not followed, and its target stays', async () => {
  const theirs = join(stage.bpffs, 'theirs');
  await mkdir(theirs);
  await createMap(join(theirs, 'prog'), 4);
  const { dir } = chain.members[2]!;
  await symlink(theirs, join(stage.bpffs, dir.replace(/[0-9]+$/, '99')));

  const [first, , third] = marks([1, 2, 3]);
  assert.equal((await stage.deploy({ xdp_ingress: [first!, third!] })).status, 'applied');

  assert.deepEqual(await readdir(theirs), ['prog']);
  // When the neighbours exist again, the folders around the link are removed with them.
  await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });
  await rm(join(stage.bpffs, dir.replace(/[0-9]+$/, '99')));
  await rm(theirs, { recursive: true });
});
