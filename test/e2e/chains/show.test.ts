import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ReplyOf } from '../../../src/messages/requests.js';
import { atTerminal, shell } from '../../support/l3afctl.js';
import { type PackageSpec, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { bpftool } from '../support/kernel.js';
import { DISCARD_PORT, eventually, PLATFORM, Stage } from '../support/stage.js';

/*
 * What `l3afctl show` reports of chains in the kernel, and of damage before the agent repairs it.
 */

const HOST = 'shown';
const RED = '\u001b[31m';
const BOLD = ['\u001b[1m', '\u001b[22m'] as const;

const deployed = {
  xdp_ingress: [
    payloadProgram('port-count', { seq_id: 1 }),
    payloadProgram('port-drop', { seq_id: 2 }),
    payloadProgram('rate-limit', { seq_id: 3 }),
  ],
  tc_egress: [payloadProgram('tc-count', { seq_id: 1 })],
  // As in deploy/examples/probe.json, which has nothing more.
  probes: [
    { name: 'exec-count', version: '1.0', artifact: 'exec-count.tar.gz', object_file: 'exec_count.bpf.o' },
  ] as PayloadProgram[],
};

const EXEC_COUNT: PackageSpec = {
  name: 'exec-count',
  version: '1.0',
  platform: PLATFORM,
  artifact: 'exec-count.tar.gz',
  files: { 'exec_count.bpf.o': builtObject('exec_count') },
};

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: HOST, packages: [EXEC_COUNT], env: { L3AF_RECONCILE_INTERVAL: '1h' } });
  assert.equal((await stage.deploy(deployed)).status, 'applied');
});
after(() => stage.close());

const l3afctl = async (words: string) => {
  const { out, error, code } = await shell(`l3afctl ${words}`, { natsUrl: stage.agent.natsUrl });
  assert.deepEqual([error, code], ['', 0], words);
  return out;
};

/** The text that is red at a terminal, without the frames of boxes. */
async function redWords(): Promise<string[]> {
  const { out, code } = await atTerminal('show', stage.agent.natsUrl);
  assert.ok(code === 0 && out.includes(BOLD[0]), out);
  const parts = out.replaceAll(BOLD[0], '').replaceAll(BOLD[1], '').split(RED).slice(1);
  return parts.map((part) => part.split('\u001b')[0]?.trim() ?? '').filter((text) => /[\w✖]/.test(text));
}

test('a chain is drawn with the ids of the kernel', async () => {
  const picture = await l3afctl(`show --host ${HOST}`);

  for (const direction of ['xdpingress', 'egress'] as const) {
    const chain = await stage.chain(direction);
    assert.match(picture, new RegExp(`✔ {2}${stage.bed.iface} ${direction} {2}.* link ${chain?.linkId}\n`));
    const row = (word: string, ids: readonly number[] = []) =>
      new RegExp(ids.map((id) => `${word} ${id}\\b`).join('.*'));
    assert.match(
      picture,
      row(
        'prog',
        chain?.members.map(({ programId }) => programId),
      ),
    );
    assert.match(
      picture,
      row(
        'slot',
        chain?.members.map(({ slotId }) => slotId),
      ),
    );
  }
  assert.match(picture, /xdp-root .* port-count 1\.0 .* port-drop 1\.0 .* rate-limit 1\.0 /);
  assert.doesNotMatch(picture, /✖|missing/);
});

test('the chains of one interface can be read as JSON by scripts', async () => {
  const [reply] = JSON.parse(await l3afctl(`show --iface ${stage.bed.iface} -o json`)) as ReplyOf<'chains'>[];
  const names = reply?.hooks.map(({ strands }) => strands.flatMap(({ members }) => members.map(({ name }) => name)));

  assert.deepEqual(names, [
    ['xdp-root', 'port-count', 'port-drop', 'rate-limit'],
    ['tc-root', 'tc-count'],
  ]);
  const { hooks, probes } = await stage.fleet.request(HOST, 'chains', { iface: 'none0' });
  assert.deepEqual([hooks, probes], [[], undefined]);
});

test('probes of the host are shown with their version, their programs and what keeps them attached', async () => {
  const { programs, links } = await stage.kernel();
  const [program] = programs.filter(({ pin }) => pin.includes('/exec-count/'));
  const [link] = links.filter(({ pin }) => pin.includes('/exec-count/'));

  const picture = await l3afctl(`show --host ${HOST}`);
  assert.match(
    picture,
    new RegExp(`\\n\\n  ✔  probes\\n    exec-count 1\\.0  count_exec  prog ${program?.id}  link ${link?.id}\\n`),
  );
  assert.match(await l3afctl(`status --host ${HOST}`), new RegExp(`\\n${HOST} .* ready +5/5 `));
  assert.match(
    await l3afctl(`programs --host ${HOST}`),
    new RegExp(`\\n${HOST} +- +probe +- +exec-count +1\\.0 +running +- +${program?.id}\\n`),
  );
});

test('a probe whose link somebody has unpinned is shown in red as not attached', async () => {
  const red = await redAfter(async () => {
    const { links } = await stage.kernel();
    rmSync(join(stage.bpffs, links.find(({ pin }) => pin.includes('/exec-count/'))?.pin ?? ''));
  });

  assert.equal(red.length, 3, red.join('\n'));
  assert.match(red[1] ?? '', /^exec-count 1\.0 +count_exec +prog \d+ +not attached$/);
  assert.equal(red[2], '✖ count_exec of exec-count 1.0 is not attached');
});

test('packets are counted while --stats is used', async () => {
  const traffic = await stage.startTraffic(DISCARD_PORT, 2_000);
  const picture = await l3afctl(`show --host ${HOST} --stats 500ms`);
  await traffic.stop();

  const [, rate = '', each = ''] = /xdpingress.*?([\d,]+) packets?\/s, ([\d,]+) ns each/s.exec(picture) ?? [];
  assert.ok(Number(rate.replaceAll(',', '')) > 0 && Number(each.replaceAll(',', '')) > 0, picture);
});

test('a slot that somebody has changed is shown in red', async () => {
  const sentence = '✖ port-drop 1.0 is desired, but no packet passes it';

  const red = await redAfter(async () => {
    const [, count, , limit] = (await stage.chain())?.members ?? [];
    const [slot, target] = [`${stage.bpffs}/${count?.dir}/slot`, `${stage.bpffs}/${limit?.dir}/prog`];
    await bpftool('map', 'update', 'pinned', slot, 'key', '0', '0', '0', '0', 'value', 'pinned', target);
  });

  assert.deepEqual(red, ['✖', 'port-drop 1.0', 'missing', sentence]);
});

test('a link that somebody has detached is shown in red', async () => {
  const red = await redAfter(async () => {
    const { linkId } = (await stage.chain('egress'))!;
    await bpftool('link', 'detach', 'id', String(linkId));
  });

  assert.equal(red.length, 3);
  assert.match(red[1] ?? '', /^tcx link \d+, detached$/);
  assert.equal(red[2], `✖ The chain is not attached to ${stage.bed.iface}/egress: its link is detached`);
});

/** The red text after some damage. Repeated if the agent, woken by a change to any interface, repaired it first. */
async function redAfter(damage: () => Promise<void>): Promise<string[]> {
  const red = await eventually(
    async () => {
      assert.match((await stage.deploy(deployed)).status, /^(applied|unchanged)$/);
      await damage();
      return redWords();
    },
    (words) => words.length > 0,
    'the damage should be red',
  );
  assert.match((await stage.deploy(deployed)).status, /^(applied|unchanged)$/);
  const { hooks, probes } = await stage.fleet.request(HOST, 'chains', {});
  assert.deepEqual(
    [...hooks.flatMap(({ differences }) => differences), ...(probes?.differences ?? [])],
    [],
    'nothing differs after the repair',
  );
  return red;
}
