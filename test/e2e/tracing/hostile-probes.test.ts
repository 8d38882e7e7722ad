import assert from 'node:assert/strict';
import { mkdir, readdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { until } from '../../support/until.js';
import { bpftool } from '../support/kernel.js';
import { openProbesStage, type ProbesStage, probe, watching } from '../support/probes.js';

/*
 * Somebody replaces pins of probes by other objects. The agent loads the probes again and leaves no foreign object.
 */

let on: ProbesStage;
before(async () => {
  on = await openProbesStage('hostile-probes', 200);
});
afterEach(() => on.clear());
after(() => on.close());

const deploy = () => on.stage.deploy({ probes: [probe('events', watching(on.pid))] });

const PLACES = ['maps/event_counts', 'maps/watched_pid', 'probes/on_tracepoint/prog', 'probes/on_tracepoint/link'];

const THINGS: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
  'another map': (path) =>
    bpftool('map', 'create', path, 'type', 'array', 'key', '4', 'value', '65536', 'entries', '1', 'name', 'hostile'),
  'a directory': (path) => mkdir(path),
  'a link to itself': (path) => symlink(path, path),
};

/** The directory of the loaded probes, in the bpffs. */
async function directory(): Promise<string> {
  const version = join(on.stage.bpffs, 'progs', 'probes', 'events', '1_0');
  const [only, ...others] = await readdir(version);
  assert.deepEqual(others, [], 'there is more than one load');
  return join(version, only!);
}

for (const place of PLACES) {
  for (const [thing, put] of Object.entries(THINGS)) {
    test(`when ${thing} replaces ${place}, the probes are loaded again`, async () => {
      await deploy();
      const before = await directory();

      await on.stage.agent.whileHalted(async () => {
        await rm(join(before, place));
        await put(join(before, place));
      });

      await until('they are loaded again', async () => (await directory()) !== before);
      assert.equal((await deploy()).status, 'unchanged');
    });
  }
}
