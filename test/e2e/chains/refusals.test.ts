import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { RequestRefusedError } from '../../../src/client/request-refused.js';
import type { ErrorCode } from '../../../src/errors.js';
import { PrivateBpffs } from '../../support/bpftool.js';
import { compileObject } from '../../support/compile.js';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { createTestbed } from '../../support/testbed.js';
import { run } from '../../support/tool.js';
import type { Traffic } from '../../support/traffic.js';
import { assertChain, assertLinked } from '../support/chain.js';
import { attachedXdp, type KernelState, numberIn } from '../support/kernel.js';
import { DISCARD_PORT, eventually, PLATFORM, Stage } from '../support/stage.js';

/*
 * A command that cannot be carried out is answered with a code, a sentence and the place in the payload. It changes
 * nothing: no id of the running chain changes, and every packet still passes it.
 */

/** Packets per second. */
const RATE = 2_000;
const FIRST = payloadProgram('xdp-mark-1', { seq_id: 1 });
const SECOND = payloadProgram('xdp-mark-2', { seq_id: 2 });
const THIRD = payloadProgram('xdp-mark-3', { seq_id: 3 });
const STANDING = ['xdp-mark-1@1.0', 'xdp-mark-2@1.0'];

let stage: Stage;
let traffic: Traffic;
let standing: KernelState;

before(async () => {
  const hollow = { name: 'hollow', version: '1.0', platform: PLATFORM, artifact: 'hollow.tar.gz' };
  const folder = await mkdtemp(join(tmpdir(), 'l3af-refusals-'));
  const object = join(folder, 'frags.bpf.o');
  await compileObject('kinds', object, '-DCASE_none', '-DSECTION="xdp.frags"');
  const frags = { name: 'frags', version: '1.0', platform: PLATFORM, artifact: 'frags.tar.gz' };
  const packages = [
    { ...hollow, files: { README: Buffer.from('nothing') } },
    { ...frags, files: { 'frags.bpf.o': await readFile(object) } },
  ];
  await rm(folder, { recursive: true });
  stage = await Stage.open({ host: 'refusals', packages });
  const guarded = join(stage.repository, 'xdp-mark-4', '1.0', PLATFORM, 'xdp-mark-4.tar.gz');
  await writeFile(`${guarded}.sha256`, `${'0'.repeat(64)}  xdp-mark-4.tar.gz\n`);

  await stage.deploy({ xdp_ingress: [FIRST, SECOND] });
  await assertChain(stage, STANDING);
  standing = await stage.kernel();
  traffic = await stage.startTraffic(DISCARD_PORT, RATE);
});
after(() => stage.close());

const mapArgs = (name: string, key: number, value: number | string) => [{ name, args: [{ key, value }] }];

/** A third program that cannot run, and the expected refusal. */
interface Refusal {
  readonly what: string;
  readonly third: PayloadProgram;
  readonly code: ErrorCode;
  /** The path within the program. */
  readonly path: string;
  readonly message: RegExp;
}

const REFUSALS: readonly Refusal[] = [
  {
    what: 'an artifact that the repository does not have',
    third: { ...THIRD, artifact: 'nowhere.tar.gz' },
    code: 'ARTIFACT_NOT_FOUND',
    path: 'artifact',
    message: /nowhere\.tar\.gz/,
  },
  {
    what: 'an artifact whose digest is not the one beside it',
    third: payloadProgram('xdp-mark-4', { seq_id: 3 }),
    code: 'DIGEST_MISMATCH',
    path: 'artifact',
    message: /0000000000/,
  },
  {
    what: 'an archive without the object file',
    third: { ...THIRD, name: 'hollow', artifact: 'hollow.tar.gz' },
    code: 'OBJECT_FILE_NOT_FOUND',
    path: 'object_file',
    message: /xdp_mark\.bpf\.o/,
  },
  {
    what: 'an object without the entry function',
    third: { ...THIRD, entry_function_name: 'xdp_nothing' },
    code: 'ENTRY_FUNCTION_NOT_FOUND',
    path: 'entry_function_name',
    message: /xdp_nothing.*xdp_mark/,
  },
  {
    what: 'a slot that the object does not have',
    third: { ...THIRD, map_name: 'nothing_next' },
    code: 'SLOT_INVALID',
    path: 'map_name',
    message: /nothing_next.*mark_next/,
  },
  {
    what: 'a slot that is no PROG_ARRAY',
    third: { ...THIRD, map_name: 'mark_packets' },
    code: 'SLOT_INVALID',
    path: 'map_name',
    message: /mark_packets.*PROG_ARRAY/,
  },
  {
    what: 'arguments for a map that the program does not have',
    third: { ...THIRD, map_args: mapArgs('nothing', 0, 1) },
    code: 'MAP_NOT_FOUND',
    path: 'map_args.0.name',
    message: /nothing.*mark_id/,
  },
  {
    what: 'a key that is too large for the map',
    third: payloadProgram('port-drop', { seq_id: 3, map_args: mapArgs('drop_ports', 65_536, 1) }),
    code: 'MAP_VALUE_INVALID',
    path: 'map_args.0.args.0.key',
    message: /65536/,
  },
  {
    what: 'a value that is too large for the map',
    third: payloadProgram('port-drop', { seq_id: 3, map_args: mapArgs('drop_ports', 80, 256) }),
    code: 'MAP_VALUE_INVALID',
    path: 'map_args.0.args.0.value',
    message: /256/,
  },
  {
    what: 'a key beyond the end of an array',
    third: { ...THIRD, map_args: mapArgs('mark_id', 1, 3) },
    code: 'MAP_VALUE_INVALID',
    path: 'map_args.0.args.0.key',
    message: /mark_id/,
  },
  {
    what: 'a program that no program of the chain can call',
    third: {
      ...THIRD,
      name: 'frags',
      artifact: 'frags.tar.gz',
      object_file: 'frags.bpf.o',
      entry_function_name: 'xdp_kinds',
      map_name: '',
      map_args: [],
    },
    code: 'LOAD_FAILED',
    path: 'object_file',
    message: /xdp_kinds is in the section xdp\.frags, .*chaining: false/,
  },
];

for (const { what, third, code, path, message } of REFUSALS) {
  test(`refused: ${what}`, async () => {
    const ack = await stage.deploy({ xdp_ingress: [FIRST, SECOND, third] });

    assert.equal(ack.status, 'failed', JSON.stringify(ack));
    assert.equal(ack.code, code, ack.message);
    assert.deepEqual(
      ack.errors.map((error) => [error.path, error.code]),
      [[`0.bpf_programs.xdp_ingress.2.${path}`, code]],
    );
    assert.match(ack.message ?? '', message);
    assert.equal(ack.undone, true);
    assert.deepEqual(await stage.kernel(), standing);
  });

  test(`foreseen by a plan: ${what}`, async () => {
    const payload = stage.payload({ xdp_ingress: [FIRST, SECOND, third] });
    const plan = stage.fleet.request(stage.host, 'plan', { verb: 'deploy', payload });
    const error = await plan.catch((refusal: unknown) => refusal);

    assert.ok(error instanceof RequestRefusedError, JSON.stringify(error));
    assert.deepEqual(
      error.refusal.errors?.map((fault) => [fault.path, fault.code]),
      [[`0.bpf_programs.xdp_ingress.2.${path}`, code]],
    );
    assert.deepEqual(await stage.kernel(), standing);
  });
}

test('arguments that do not fit a running program change nothing', async () => {
  const ack = await stage.deploy({
    xdp_ingress: [
      { ...FIRST, map_args: mapArgs('mark_id', 0, 9) },
      { ...SECOND, map_args: mapArgs('mark_id', 0, 2 ** 32) },
    ],
  });

  assert.deepEqual([ack.status, ack.code, ack.undone], ['failed', 'MAP_VALUE_INVALID', true]);
  assert.equal(ack.errors[0]?.path, '0.bpf_programs.xdp_ingress.1.map_args.0.args.0.value');
  assert.equal(await numberIn(stage.xdpMap('xdp-mark-1', '1.0', 'mark_id')), 1);
  assert.deepEqual(await stage.kernel(), standing);
});

test('a command that names an interface that does not exist is refused as a whole', async () => {
  const ack = await stage.send('deploy', [
    ...stage.payload({ xdp_ingress: [FIRST] }),
    ...stage.payload({ xdp_ingress: [THIRD] }, 'l3af-absent'),
  ]);

  assert.deepEqual([ack.status, ack.code], ['failed', 'INTERFACE_NOT_FOUND']);
  assert.equal(ack.errors[0]?.path, '1.iface');
  assert.match(ack.message ?? '', /l3af-absent/);
  assert.deepEqual(await stage.kernel(), standing);
});

test('refuse over a foreign XDP program: it is named and left alone, and no other chain is touched', async (t) => {
  // given a foreign program at another interface
  const [other, foreign] = [await createTestbed(), new PrivateBpffs()];
  t.after(() => other.close());
  await foreign.mount();
  t.after(() => foreign.unmount());
  const holder = await foreign.load(builtObject('xdp_root'), 'xdp');
  await run('ip', ['link', 'set', 'dev', other.iface, 'xdp', 'pinned', holder.programPin('xdp_root')]);
  const { id } = await holder.showProgram('xdp_root');

  // when a deploy names that interface too, after a change to a running chain
  const ack = await stage.send('deploy', [
    ...stage.payload({ xdp_ingress: [FIRST, { ...SECOND, version: '2.0' }, THIRD] }),
    ...stage.payload({ xdp_ingress: [FIRST] }, other.iface),
  ]);

  // then the answer says which program is attached there, and which place in the payload conflicts with it
  assert.deepEqual([ack.status, ack.code, ack.undone], ['failed', 'HOOK_OCCUPIED', true]);
  assert.match(ack.message ?? '', new RegExp(`${other.iface}.*program ${id} \\(xdp_root\\)`));
  assert.equal(ack.errors[0]?.path, '1.iface');

  // and both interfaces are unchanged
  assert.equal(await attachedXdp(other.iface), id);
  assert.deepEqual(await stage.kernel(), standing);
});

test('a command that conflicts with the desired state is rejected at once', async () => {
  const [list, program] = ['0.bpf_programs.xdp_ingress', '0.bpf_programs.xdp_ingress.0'];
  const conflicts = await Promise.all([
    stage.add({ xdp_ingress: [{ ...FIRST, version: '2.0' }] }),
    stage.add({ xdp_ingress: [{ ...THIRD, seq_id: 2 }] }),
    stage.deploy({ xdp_ingress: [FIRST, { ...THIRD, seq_id: 1 }] }),
    stage.deploy({ xdp_ingress: [{ ...FIRST, artifact: '../../etc/passwd.tar.gz' }] }),
    stage.deploy({ xdp_ingress: [{ ...FIRST, cmd_start: '../companion' }] }),
    stage.send('deploy', [{ ...stage.payload({ xdp_ingress: [FIRST] })[0], host_name: 'elsewhere' }]),
    stage.send('deploy', Buffer.from('[{]')),
  ]);

  assert.deepEqual(
    conflicts.map(({ status, errors: [error] }) => [status, error?.code, error?.path]),
    [
      ['rejected', 'NAME_CONFLICT', program],
      ['rejected', 'SEQ_ID_TAKEN', `${program}.seq_id`],
      ['rejected', 'DUPLICATE_SEQ_ID', `${list}.1.seq_id`],
      ['rejected', 'INVALID_FIELD', `${program}.artifact`],
      ['rejected', 'INVALID_FIELD', `${program}.cmd_start`],
      ['rejected', 'FOREIGN_HOST', '0.host_name'],
      ['rejected', 'INVALID_JSON', undefined],
    ],
  );
  assert.deepEqual(await stage.kernel(), standing);
});

test('during all these tests, every program has counted every packet', async () => {
  const counted = (name: string) => numberIn(stage.xdpMap(name, '1.0', 'mark_packets')).then(Number);
  const before = 40; // from the check of the chain at the start
  const sent = (await traffic.stop()) - (await stage.bed.lost());
  await eventually(
    () => counted('xdp-mark-2'),
    (count) => count >= before + sent,
    `${before + sent} packets should be counted`,
  );
  assert.equal(await counted('xdp-mark-1'), before + sent);
  assert.equal(await counted('xdp-mark-2'), before + sent);
  await assertLinked(stage, STANDING);
});
