import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { processesWith } from '../../support/companions.js';
import { payloadProgram } from '../../support/packages.js';
import { selfLoaded, selfLoadingPackage } from '../../support/self-loading.js';
import { assertChain, marks } from '../support/chain.js';
import { namesOf } from '../support/kernel.js';
import { PLATFORM, Stage } from '../support/stage.js';

/*
 * Companions that load their program and tamper with the files that the agent has made for it. The agent continues if
 * it can. Otherwise the command fails with a sentence, the previous state stays, and nothing is left behind.
 */

const NAME = 'xdp-mark-2';

/** What a package's author could write: finds the slot, the agent's pins and the public names. */
const PREAMBLE = `#!/bin/sh
set -eu
for word in "$@"; do
  case $word in --map-name=*) slot=\${word#*=} ;; --iface=*) iface=\${word#*=} ;; esac
done
loaded=$(dirname "$slot")
names=\${slot%%/progs/*}/$iface/${NAME}/1_0
map() { bpftool map create "$1" type array key 4 value "\${2:-4}" entries 1 name hostile; }
load() { "$(dirname "$0")/program_loader" "$@" --once; }
`;

const REFUSED: Readonly<Record<string, { script: string; says: RegExp }>> = {
  'puts a directory in the place of its slot': {
    script: 'load "$@"; rm "$slot"; mkdir "$slot"',
    says: /has not put its program into the slot/,
  },
  'puts another map in the place of its slot': {
    script: 'load "$@"; rm "$slot"; map "$slot" 65536',
    says: /has not put its program into the slot/,
  },
  'removes the folder of its slot': {
    script: 'load "$@"; rm -r "$loaded"',
    says: /has not put its program into the slot/,
  },
  'has its program use the slot that it was given': {
    script: 'mkdir -p "$names"; ln "$slot" "$names/mark_next"; load "$@"',
    says: /has used as slot mark_next the slot into which it had to put/,
  },
};

const TAKEN_OVER: Readonly<Record<string, string>> = {
  "makes the agent's own folder for maps": 'load "$@"; mkdir "$loaded/maps"; map "$loaded/maps/mark_seen"',
  "pins things under the agent's own names": 'load "$@"; map "$loaded/slot"; mkdir "$loaded/prog"',
  'gives the slot that it was given the public name of its own':
    'load "$@"; rm "$names/mark_next"; ln "$slot" "$names/mark_next"',
  'leaves folders and links among its public names':
    'load "$@"; mkdir "$names/folder"; map "$names/folder/inner"; ln -s loop "$names/loop"; ln -s /proc/self/status "$names/status"',
  'writes without end': 'load "$@"; exec yes "all is well"',
};

const COMMANDS = [...Object.keys(REFUSED), ...Object.keys(TAKEN_OVER)];
const commandOf = (what: string) => `hostile-${COMMANDS.indexOf(what)}`;

let stage: Stage;
before(async () => {
  const bodies = [...Object.values(REFUSED).map(({ script }) => script), ...Object.values(TAKEN_OVER)];
  const scripts = bodies.map((body, index) => [
    `hostile-${index}`,
    { script: `${PREAMBLE}${body}\nexec sleep 1000\n` },
  ]);
  const packages = [selfLoadingPackage('xdp', NAME, { platform: PLATFORM }, Object.fromEntries(scripts))];
  stage = await Stage.open({
    host: 'hostile-self-loading',
    packages,
    env: { L3AF_RECONCILE_INTERVAL: '200ms', L3AF_COMPANION_READY_TIME: '3s' },
  });
});
after(async () => {
  await stage.close();
  assert.deepEqual(processesWith(stage.stateDir), [], 'companions are left');
});

function deploy(what: string) {
  const hostile = { ...selfLoaded(payloadProgram(NAME, { seq_id: 2 })), cmd_start: commandOf(what) };
  const [first, third] = marks([1, 3]);
  return stage.deploy({ xdp_ingress: [{ ...first!, seq_id: 1 }, hostile, { ...third!, seq_id: 3 }] });
}

const companions = () => processesWith(stage.stateDir).filter((id) => id !== stage.agent.pid);
const BEFORE = ['xdp-mark-1@1.0', 'xdp-mark-3@1.0'];

for (const [what, { says }] of Object.entries(REFUSED)) {
  test(`a companion that ${what} is refused, and the chain stays as it was`, async () => {
    await stage.deploy({ xdp_ingress: marks([1, 3]) });

    const answer = await deploy(what);

    assert.deepEqual([answer.status, answer.undone], ['failed', true], answer.message);
    assert.match(answer.message ?? '', says);
    assert.deepEqual(companions(), []);
    await assertChain(stage, BEFORE);
    assert.deepEqual(await stage.leaked(await stage.kernel()), []);
  });
}

for (const what of Object.keys(TAKEN_OVER)) {
  test(`a companion that ${what} still has its program in the chain`, async () => {
    await stage.deploy({ xdp_ingress: marks([1, 3]) });

    const answer = await deploy(what);

    assert.equal(answer.status, 'applied', answer.message);
    await assertChain(stage, ['xdp-mark-1@1.0', `${NAME}@1.0`, 'xdp-mark-3@1.0']);
    assert.equal((await deploy(what)).status, 'unchanged');
    assert.equal((await stage.deploy({ xdp_ingress: marks([1, 3]) })).status, 'applied');
    assert.deepEqual(companions(), []);
    assert.deepEqual(namesOf((await stage.chain())!), BEFORE);
    // The agent does not remove what a companion has put beside its maps.
    await rm(join(stage.bpffs, stage.bed.iface, NAME), { recursive: true, force: true });
  });
}
