import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseReply } from '../../../src/messages/requests.js';
import { atTerminal, shell } from '../../support/l3afctl.js';
import { payloadProgram } from '../../support/packages.js';
import { Stage } from '../support/stage.js';

/*
 * The dry run: it predicts what the command does, and leaves the kernel as it was.
 */

const YELLOW = '\u001b[33m';

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'planning' });
});
after(() => stage.close());

const chain = (version: string) => ({
  xdp_ingress: [
    payloadProgram('port-count', { seq_id: 1 }),
    payloadProgram('port-drop', { seq_id: 2, version }),
    payloadProgram('rate-limit', { seq_id: 3 }),
  ],
});

test('a plan says what the deploy then does, and leaves nothing loaded', async () => {
  const payload = stage.payload(chain('1.0'));
  const plan = await stage.fleet.request('planning', 'plan', { verb: 'deploy', payload });

  assert.equal(plan.changes, true);
  assert.deepEqual(plan.reasons, [`${stage.bed.iface}/xdpingress: loads 3 programs and attaches the chain last`]);
  assert.equal(await stage.chain(), undefined, 'nothing is attached');
  assert.deepEqual((await stage.kernel()).entries, [], 'nothing is pinned');

  const answer = await stage.deploy(chain('1.0'));
  const told = plan.outcomes.map(({ name, result }) => [name, result]);
  assert.deepEqual(
    answer.programs.map(({ name, result }) => [name, result]),
    told,
  );
});

test('a change of one program is one write to the slot before it', async () => {
  const before = await stage.chain();
  const payload = stage.payload(chain('2.0'));
  const plan = await stage.fleet.request('planning', 'plan', { verb: 'deploy', payload });

  assert.deepEqual(
    plan.commit.map(({ op }) => op),
    ['link'],
  );
  assert.deepEqual(
    plan.outcomes.map(({ result }) => result),
    ['unchanged', 'updated', 'unchanged'],
  );
  assert.deepEqual(await stage.chain(), before);
});

test('a plan has colours at a terminal, and its steps in order for scripts', async () => {
  const file = join(stage.stateDir, '..', 'payload.json');
  await writeFile(file, JSON.stringify(stage.payload(chain('2.0'))));
  const { natsUrl } = stage.agent;

  const { out } = await atTerminal(`plan -f ${file}`, natsUrl);
  const updated = out.split('\n').find((line) => line.includes('port-drop 2.0'));
  assert.ok(updated?.startsWith(`${YELLOW}  ~ `), out);
  const { out: json } = await shell(`l3afctl plan -f ${file} -o json`, { natsUrl });
  const { prepare, commit, cleanup } = parseReply('plan', Buffer.from(json));
  assert.deepEqual(
    [...prepare, ...commit, ...cleanup].map(({ op }) => op),
    ['fetch', 'load', 'link', 'link', 'grace', 'discard', 'prove'],
  );
});

test('no changes is said plainly', async () => {
  const payload = stage.payload(chain('1.0'));
  const { changes, reasons } = await stage.fleet.request('planning', 'plan', { verb: 'deploy', payload });
  assert.deepEqual([changes, reasons], [false, []]);
});

test('a program that the verifier refuses is refused by the plan, in the words of the verifier', async () => {
  const before = await stage.chain();
  const payload = stage.payload({
    xdp_ingress: [...chain('1.0').xdp_ingress, payloadProgram('broken', { seq_id: 4 })],
  });
  await assert.rejects(
    stage.fleet.request('planning', 'plan', { verb: 'deploy', payload }),
    /invalid access to packet/,
  );
  const file = join(stage.stateDir, '..', 'broken.json');
  await writeFile(file, JSON.stringify(payload));
  const { out: plan, code } = await shell(`l3afctl plan -f ${file}`, { natsUrl: stage.agent.natsUrl });
  assert.deepEqual(await stage.chain(), before);

  // The command gives the same answer, with the place, the verifier's log, and more about the host.
  const { out: deploy } = await shell(`l3afctl deploy -f ${file} --wait`, { natsUrl: stage.agent.natsUrl });
  const [head, ...told] = plan.trimEnd().split('\n');
  assert.deepEqual([head, code], ['✖ deploy would fail on planning', 1]);
  assert.ok(told.length > 4 && told[1] === '  0.bpf_programs.xdp_ingress.3', plan);
  assert.deepEqual(told, deploy.split('\n').slice(1, told.length + 1));
});
