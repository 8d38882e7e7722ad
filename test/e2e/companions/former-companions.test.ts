import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { processesWith } from '../../support/companions.js';
import { type PackageSpec, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { until, untilGiven } from '../../support/until.js';
import { resultsOf } from '../support/chain.js';
import { numberIn } from '../support/kernel.js';
import { PLATFORM, Stage } from '../support/stage.js';

/*
 * A companion for older versions of l3afd, whose paths did not contain program and version. It does not know the option
 * --version, and looks for its map at <bpffs>/<iface>/<map>.
 */

const PORT = 8080;
const COMPANION = `#!/bin/sh
for argument; do
  case $argument in
    --iface=*) iface=\${argument#*=} ;;
    --bpffs=*) bpffs=\${argument#*=} ;;
    --direction=*) ;;
    *) echo "$0: unrecognized option '$argument'" >&2; exit 1 ;;
  esac
done
[ -e "$bpffs/$iface/packet_count" ] || { echo "no map at $bpffs/$iface/packet_count" >&2; exit 1; }
exec sleep 1000
`;

const packages = ['1.0', '2.0'].map(
  (version): PackageSpec => ({
    name: 'port-count',
    version,
    platform: PLATFORM,
    artifact: 'former.tar.gz',
    files: { 'port_count.bpf.o': builtObject('port_count'), watch: { script: COMPANION } },
  }),
);

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'former', packages, env: { L3AF_RECONCILE_INTERVAL: '500ms' } });
});
after(async () => {
  await stage.close();
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});

const watched = (version = '1.0'): PayloadProgram =>
  payloadProgram('port-count', {
    version,
    artifact: 'former.tar.gz',
    cmd_start: 'watch',
    user_program_daemon: true,
    start_args: { bpffs: stage.bpffs },
  });

const formerPath = (map: string) => join(stage.bpffs, stage.bed.iface, map);

function companion(): Promise<number> {
  return untilGiven('one companion runs', () => {
    const [pid, ...others] = processesWith(stage.stateDir).filter((id) => id !== stage.agent.pid);
    return others.length === 0 ? pid : undefined;
  });
}

test('a former companion finds the map of its program', async () => {
  assert.equal((await stage.deploy({ xdp_ingress: [watched()] })).status, 'applied');
  await companion();
  await stage.receive(20, PORT);
  assert.ok((await numberIn(formerPath('packet_count')))! >= 20);
});

test('it finds the map of a new version too, also when it is started again after its death', async () => {
  const answer = await stage.deploy({ xdp_ingress: [watched('2.0')] });
  assert.deepEqual(resultsOf(answer), { 'port-count': 'updated' });
  const pid = await companion();
  const seen = async () => await numberIn(stage.xdpMap('port-count', '2.0', 'packet_count'));
  await stage.receive(10, PORT);
  await until('both names are of one map', async () => (await numberIn(formerPath('packet_count'))) === (await seen()));
  process.kill(pid, 'SIGKILL');
  await until('it runs again', async () => (await companion()) !== pid);
});

test('programs without companions have no maps at former paths; these paths are removed with their programs', async () => {
  await stage.deploy({ xdp_ingress: [payloadProgram('port-count')] });
  assert.equal(existsSync(formerPath('packet_count')), false, 'for a program without companion');
  await stage.deploy({ xdp_ingress: [watched()] });
  assert.equal(existsSync(formerPath('packet_count')), true);
  await stage.deploy({});
  assert.equal(existsSync(join(stage.bpffs, stage.bed.iface)), false);
});
