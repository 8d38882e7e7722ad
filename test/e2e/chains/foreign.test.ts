import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import type { ReplyOf } from '../../../src/messages/requests.js';
import { PrivateBpffs } from '../../support/bpftool.js';
import { attachForeign } from '../../support/foreign-tcx.js';
import { shell } from '../../support/l3afctl.js';
import { payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { run } from '../../support/tool.js';
import { marks } from '../support/chain.js';
import { Stage } from '../support/stage.js';

/*
 * The kernel ends at the first verdict: a foreign program before a chain can keep packets from it, and a chain can keep
 * packets from what runs behind it. The agent leaves both as they are, and says so wherever somebody looks.
 */

const HOST = 'foreign';

let stage: Stage;
const foreign = new PrivateBpffs();
before(async () => {
  stage = await Stage.open({ host: HOST, env: { L3AF_RECONCILE_INTERVAL: '1h' } });
  await foreign.mount();
});
after(async () => {
  await stage.close();
  await foreign.unmount();
});
afterEach(() => stage.deploy({}));

/** Where a person or a program can look, and what is said there. */
async function said(): Promise<Record<string, string>> {
  const words = async (command: string) => {
    const { out } = await shell(`l3afctl ${command} --host ${HOST}`, { natsUrl: stage.agent.natsUrl });
    return out.replaceAll(/\s+/g, ' ');
  };
  const health = (await stage.nats.request(`l3af.req.${HOST}.health`)).json() as ReplyOf<'health'>;
  return {
    status: await words('status'),
    show: await words('show'),
    health: health.checks.map(({ message }) => message ?? '').join(' '),
  };
}

test('a TCX program before the chain is told in the answer, in status, show and health', async (t) => {
  const stranger = await foreign.load(builtObject('tc_count'), 'classifier');
  t.after(() => stranger.unload());
  t.after(attachForeign(stranger.programPin('tc_count'), stage.bed.iface, 'ingress'));

  const { status, message } = await stage.deploy({ tc_ingress: marks([1], 'tc') });

  const { id } = await stranger.showProgram('tc_count');
  const words = `Program ${id} (tc_count), which is not ours, runs before the chain; packets that it accepts or drops never reach the chain`;
  assert.equal(status, 'applied');
  assert.equal(message, `${stage.bed.iface}/ingress: ${words}`);
  for (const [where, text] of Object.entries(await said())) assert.ok(text.includes(words), `${where}: ${text}`);
});

test('filters of clsact behind a chain at TCX are told, each, and only those of its direction', async (t) => {
  const { iface } = stage.bed;
  const stranger = await foreign.load(builtObject('tc_count'), 'classifier');
  t.after(() => stranger.unload());
  await run('tc', ['qdisc', 'add', 'dev', iface, 'clsact']);
  t.after(() => run('tc', ['qdisc', 'delete', 'dev', iface, 'clsact']));
  const pinned = ['bpf', 'da', 'object-pinned', stranger.programPin('tc_count')];
  const addFilter = (...where: string[]) => run('tc', ['filter', 'add', 'dev', iface, ...where, ...pinned]);
  await addFilter('egress', 'prio', '1');
  await addFilter('egress', 'prio', '2');
  await addFilter('ingress', 'prio', '1');

  const { message = '' } = await stage.deploy({ tc_egress: marks([1], 'tc') });

  const { id } = await stranger.showProgram('tc_count');
  const words = `egress: Program ${id} (tc_count), which is not ours, runs behind the chain; packets that the chain accepts or drops never reach it`;
  assert.equal(message, [words, words].map((text) => `${iface}/${text}`).join('; '));
});

test('filters of other kinds are told by their kind, each once', async (t) => {
  const { iface } = stage.bed;
  await run('tc', ['qdisc', 'add', 'dev', iface, 'clsact']);
  t.after(() => run('tc', ['qdisc', 'delete', 'dev', iface, 'clsact']));
  const match = ['protocol', 'all', 'u32', 'match', 'u32', '0', '0', 'flowid', ':1'];
  await run('tc', ['filter', 'add', 'dev', iface, 'ingress', 'pref', '7', ...match]);

  const { status, message } = await stage.deploy({ tc_ingress: marks([1], 'tc') });

  assert.equal(status, 'applied');
  assert.match(message ?? '', /^\S+\/ingress: A filter \(u32\), which is not ours, runs behind [^;]*(; [^;]*)?$/);
  assert.equal(message?.match(/u32/g)?.length, 1, message);
});

test('a plan foresees what would be before or behind a chain, and a hook that somebody else holds', async (t) => {
  const { iface } = stage.bed;
  const stranger = await foreign.load(builtObject('tc_count'), 'classifier');
  t.after(() => stranger.unload());
  t.after(attachForeign(stranger.programPin('tc_count'), iface, 'ingress'));
  const file = join(stage.stateDir, 'planned.json');
  await writeFile(file, JSON.stringify(stage.payload({ tc_ingress: marks([1], 'tc') })));
  t.after(() => rm(file));
  const planned = await shell(`l3afctl plan -f ${file}`, { natsUrl: stage.agent.natsUrl });
  const { id } = await stranger.showProgram('tc_count');
  assert.match(
    planned.out,
    new RegExp(`! ${iface}/ingress: Program ${id} \\(tc_count\\), which is not ours, runs before`),
  );

  const holder = await foreign.load(builtObject('xdp_root'), 'xdp');
  t.after(() => holder.unload());
  await run('ip', ['link', 'set', iface, 'xdpgeneric', 'pinned', holder.programPin('xdp_root')]);
  t.after(() => run('ip', ['link', 'set', iface, 'xdpgeneric', 'off']));
  const payload = stage.payload({ xdp_ingress: marks([1]) });
  const refused = await stage.fleet.request(HOST, 'plan', { verb: 'deploy', payload }).catch((error) => error);
  assert.match(
    String(refused),
    new RegExp(`${iface}/xdpingress is held by program \\d+ \\(xdp_root\\), which is not ours`),
  );
});

test('public names that others hold are told, and their pins stay as they are', async (t) => {
  const folder = join(stage.bpffs, stage.bed.iface, 'port-count', '1_0');
  const [asMap, asProgram] = [join(folder, 'packet_count'), join(folder, 'port_count_next')];
  await mkdir(folder, { recursive: true });
  t.after(() => rm(join(stage.bpffs, stage.bed.iface), { recursive: true, force: true }));
  const shape = ['type', 'hash', 'key', '4', 'value', '16', 'entries', '5', 'name', 'theirs'];
  await run('bpftool', ['map', 'create', asMap, ...shape]);
  await run('bpftool', ['prog', 'load', builtObject('port_drop'), asProgram, 'type', 'xdp']);
  const idOf = async (kind: 'map' | 'prog', path: string) =>
    (JSON.parse((await run('bpftool', ['-j', kind, 'show', 'pinned', path])).stdout) as { id: number }).id;
  const before = [await idOf('map', asMap), await idOf('prog', asProgram)];

  const { status, message = '' } = await stage.deploy({ xdp_ingress: [payloadProgram('port-count', { seq_id: 1 })] });

  assert.equal(status, 'applied');
  const advice = 'which is not ours: companions open that instead of the map of the program; remove it';
  assert.ok(message.includes(`${asMap} is map ${before[0]}, ${advice}`), message);
  assert.ok(message.includes(`${asProgram} is an object that is no map, ${advice}`), message);
  await stage.deploy({});
  assert.deepEqual([await idOf('map', asMap), await idOf('prog', asProgram)], before);
});

test('where nothing else is, nothing is said', async () => {
  const { message } = await stage.deploy({ tc_ingress: marks([1], 'tc'), xdp_ingress: marks([1]) });
  assert.equal(message, undefined);
  for (const [where, text] of Object.entries(await said())) assert.doesNotMatch(text, /not ours/, where);
});
