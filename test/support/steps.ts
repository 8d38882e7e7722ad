import type { CompanionLaunch } from '../../src/domain/companion.js';
import type { Hook } from '../../src/domain/hook.js';
import { loadDir, mapPin, probesDir, programPin, publicMapPath, slotPin } from '../../src/domain/pins.js';
import { packageOf } from '../../src/domain/program.js';
import type { Claim, Step } from '../../src/steps/step.js';
import { planContext, program } from './chains.js';
import { launchOf } from './companions.js';

/*
 * Steps of each kind, as in plans. A kind without a sample does not compile.
 */

const BPFFS = '/bpffs';
const hook: Hook = { iface: 'veth0', direction: 'xdpingress' };
const [OLD, NEW] = [program('a', 1), program('a', 1, { version: '2.0' })];
const refOf = ({ version }: { readonly version: string }, serial = 1) =>
  ({ hook, name: 'a', version, digest: 'a'.repeat(16), serial }) as const;
const [oldDir, newDir] = [loadDir(BPFFS, refOf(OLD)), loadDir(BPFFS, refOf(NEW))];
const probes = { name: 'p', version: '1.0', digest: 'b'.repeat(16), serial: 1 };
const probesAt = probesDir(BPFFS, probes);
const share = [{ map: 'seen', pin: mapPin(oldDir, 'seen') }];
const launch: CompanionLaunch = launchOf({}, 'a', hook);
const changed: CompanionLaunch = launchOf({ cmdUpdate: 'update', updateArgs: { rate: '2' } }, 'a', hook);
const claim: Claim = { folder: `${BPFFS}/veth0/a/2_0`, except: [] };
const name = publicMapPath(BPFFS, refOf(NEW), 'seen');
const link = `${BPFFS}/links/veth0/xdp-root/latest/xdpingress`;
const entry = { key: '01000000', value: 'ff' };
const { objectFile, entryFunction, mapName: slotMap } = NEW;

export const SAMPLES: {
  readonly [Op in Step['op']]: readonly [Extract<Step, { op: Op }>, ...Extract<Step, { op: Op }>[]];
} = {
  fetch: [{ op: 'fetch', package: packageOf(NEW) }],
  load: [
    {
      op: 'load',
      ref: refOf(NEW),
      dir: newDir,
      source: { kind: 'package', package: packageOf(NEW), objectFile, entryFunction, slotMap },
      share,
      fill: [],
      otherSides: [loadDir(BPFFS, { ...refOf(NEW), hook: { iface: 'veth0', direction: 'egress' } })],
    },
    {
      op: 'load',
      ref: refOf(NEW),
      dir: newDir,
      source: { ...planContext(BPFFS).roots.xdpingress.object, entryFunction, slotMap },
      share: [],
      fill: [],
      probes: 'leave',
    },
  ],
  'load-probes': [
    {
      op: 'load-probes',
      probes,
      dir: probesAt,
      source: { package: packageOf(NEW), objectFile, entryFunction: '' },
      share: [{ map: 'counts', pin: mapPin(probesDir(BPFFS, { ...probes, serial: 2 }), 'counts') }],
      fill: [],
    },
  ],
  'move-probes': [{ op: 'move-probes', from: oldDir, to: newDir }],
  'make-handover': [
    { op: 'make-handover', ref: refOf(NEW), dir: newDir, like: programPin(oldDir) },
    { op: 'make-handover', ref: refOf(NEW), dir: newDir, like: null },
  ],
  capture: [{ op: 'capture', ref: refOf(NEW), dir: newDir, slotMap, share, fill: [], claim }],
  link: [
    { op: 'link', slot: slotPin(oldDir), from: programPin(oldDir), to: programPin(newDir), live: true },
    { op: 'link', slot: slotPin(oldDir), from: programPin(newDir), to: null, live: true },
    { op: 'link', slot: slotPin(newDir), from: null, to: programPin(oldDir), live: false },
  ],
  attach: [
    { op: 'attach', hook, program: programPin(newDir), link, place: null },
    { op: 'attach', hook, program: programPin(newDir), link, place: { side: 'behind', link: `${link}-1` } },
  ],
  detach: [
    { op: 'detach', hook, program: programPin(oldDir), link, place: null },
    { op: 'detach', hook, program: '', link, place: null },
  ],
  retarget: [
    {
      op: 'retarget',
      hook,
      from: { program: programPin(oldDir), link },
      to: { program: programPin(newDir), link: `${link}-1` },
    },
  ],
  'write-map': [
    { op: 'write-map', map: mapPin(oldDir, 'seen'), set: [entry], remove: ['02000000'], path: '0.map_args.0' },
  ],
  publish: [
    { op: 'publish', pin: mapPin(newDir, 'seen'), path: name },
    { op: 'publish', pin: mapPin(newDir, 'seen'), path: name, former: mapPin(oldDir, 'seen') },
  ],
  unpublish: [
    { op: 'unpublish', path: name },
    { op: 'unpublish', path: name, pin: mapPin(oldDir, 'seen') },
  ],
  repin: [{ op: 'repin', dir: oldDir, programId: 10, program: true, maps: [30] }],
  grace: [{ op: 'grace' }],
  discard: [
    { op: 'discard', dir: oldDir },
    { op: 'discard', dir: probesAt },
  ],
  prove: [{ op: 'prove', programs: [10], maps: [30], links: [] }],
  'check-companion': [{ op: 'check-companion', launch }],
  'start-companion': [
    { op: 'start-companion', launch, dir: newDir, restarts: 1 },
    { op: 'start-companion', launch, dir: newDir, restarts: 0, loads: claim },
  ],
  'stop-companion': [
    { op: 'stop-companion', launch, dir: oldDir, restarts: 1 },
    { op: 'stop-companion', launch, dir: oldDir, restarts: 0, loads: true },
  ],
  tidy: [{ op: 'tidy', claim }],
  'update-companion': [
    { op: 'update-companion', from: launch, to: changed },
    { op: 'update-companion', from: launch, to: changed, loaded: oldDir },
  ],
};

export const ALL_SAMPLES: readonly Step[] = Object.values(SAMPLES).flat();
