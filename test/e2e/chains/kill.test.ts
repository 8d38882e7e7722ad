import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import { PrivateBpffs } from '../../support/bpftool.js';
import type { Direction } from '../../support/directions.js';
import { builtObject } from '../../support/project.js';
import { repeats } from '../../support/repeats.js';
import { run } from '../../support/tool.js';
import { mapOf } from '../support/chain.js';
import { chainAt, namesOf, numberIn } from '../support/kernel.js';
import {
  LISTS,
  type List,
  type Model,
  NOTHING,
  type RandomCommand,
  RandomCommands,
  randomFrom,
} from '../support/random.js';
import { DISCARD_PORT, eventually, Stage } from '../support/stage.js';

/*
 * The agent is killed at random moments while it carries out random commands. Whatever it was doing, afterwards: the
 * kernel's state is that of the acknowledged commands, each command is answered once, nothing is left over, and no
 * packet was lost.
 *
 *   L3AF_TEST_SEED=<seed> repeats the commands and moments of one run.
 */

const KILLS = repeats({ usual: 12, full: 50 });
/** The agent is killed after at most so many lines of its log (it logs each step), or after so many milliseconds. */
const MOST_LINES = 50;
const LONGEST_LIFE_MS = 400;
/** Packets per second. */
const RATE = 1_000;

const DIRECTION: Readonly<Record<List, Direction>> = {
  xdp_ingress: 'xdpingress',
  tc_ingress: 'ingress',
  tc_egress: 'egress',
};

const seed = Number(process.env.L3AF_TEST_SEED ?? randomInt(2 ** 31));

let stage: Stage;
const foreign = new PrivateBpffs();
before(async () => {
  stage = await Stage.open({ host: 'kill', env: { L3AF_LOG_LEVEL: 'debug' } });
  await foreign.mount();
});
after(async () => {
  await stage.close();
  await foreign.unmount();
});

/** Attaches a foreign filter behind the agent's hooks. It counts the packets that the hooks let through. */
async function attachWitness(): Promise<() => Promise<number>> {
  const witness = await foreign.load(builtObject('tc_count'), 'classifier');
  const { iface } = stage.bed;
  await run('tc', ['qdisc', 'add', 'dev', iface, 'clsact']);
  const program = ['bpf', 'direct-action', 'object-pinned', witness.programPin('tc_count')];
  await run('tc', ['filter', 'add', 'dev', iface, 'ingress', 'protocol', 'all', 'prio', '1', ...program]);
  return () => witness.counter('tc_packets');
}

/** Publishes commands, and keeps them by id, in the order of the stream. */
class Sent {
  readonly commands = new Map<string, RandomCommand>();

  async publish(command: RandomCommand): Promise<void> {
    const { id } = await stage.fleet.publish(command.verb, stage.host, command.payload);
    this.commands.set(id, command);
  }
}

/** Asserts that every command has one answer, and that the kernel has exactly what the answers say. */
async function assertConverged({ commands }: Sent): Promise<Acknowledgement[]> {
  const acks = await eventually(
    () => stage.fleet.acks(stage.host, { limit: 2 * commands.size }),
    (answers) => new Set(answers.map(({ id }) => id)).size === commands.size,
    `${commands.size} commands should be answered`,
  );
  assert.deepEqual(acks.map(({ id }) => id).toSorted(), [...commands.keys()].toSorted());
  const carriedOut = acks.filter(({ status }) => status === 'applied' || status === 'unchanged');
  assert.ok(!carriedOut.some(({ id }) => commands.get(id)?.doomed), 'what cannot be carried out was');

  const expected = foldAcknowledged(commands, acks);
  const state = await stage.kernel();
  let programs = 0;
  for (const list of LISTS) {
    const running = expected[list].filter(({ admin_status: status }) => status === 'enabled');
    const chain = chainAt(state, { iface: stage.bed.iface, direction: DIRECTION[list] });
    assert.deepEqual(
      namesOf(chain),
      running.map(({ name, version }) => `${name}@${version}`),
      list,
    );
    const marks = (chain?.members ?? []).slice(1).map((member) => numberIn(mapOf(stage, member, 'mark_id')));
    assert.deepEqual(
      await Promise.all(marks),
      running.map(({ map_args: mapArgs }) => mapArgs[0]?.args[0]?.value),
      `mark_id in ${list}`,
    );
    programs += chain?.members.length ?? 0;
  }
  assert.equal(state.programs.length, programs, 'programs are pinned that are in no chain');
  assert.deepEqual(await stage.leaked(state), []);
  return acks;
}

/** The desired state by the answers: of each command that was carried out or superseded by one that includes it. */
function foldAcknowledged(commands: ReadonlyMap<string, RandomCommand>, acks: readonly Acknowledgement[]): Model {
  const done = new Set(['applied', 'unchanged', 'superseded']);
  const effective = new Set(acks.filter(({ status }) => done.has(status)).map(({ id }) => id));
  return [...commands]
    .filter(([id]) => effective.has(id))
    .reduce<Model>((model, [, { effect }]) => effect(model), NOTHING);
}

/** Waits until the agent has logged so many more lines, or for `LONGEST_LIFE_MS`. */
async function progressOf(lines: number): Promise<void> {
  const [enough, deadline] = [stage.agent.logs().length + lines, performance.now() + LONGEST_LIFE_MS];
  while (stage.agent.logs().length < enough && performance.now() < deadline) await sleep(1);
}

function tally(words: readonly string[]): string {
  return [...new Set(words)].map((word) => `${word}: ${words.filter((other) => other === word).length}`).join(', ');
}

test(`killed ${KILLS} times at random moments, the agent ends where the acknowledged commands say`, async (t) => {
  // given a host that has answered its first command, traffic, and a witness behind the chains
  t.diagnostic(`L3AF_TEST_SEED=${seed}`);
  const random = randomFrom(seed);
  const commands = new RandomCommands(stage, random);
  const sent = new Sent();
  await sent.publish({ verb: 'deploy', payload: [], doomed: false, effect: () => NOTHING });
  await assertConverged(sent);
  const witnessed = await attachWitness();
  const traffic = await stage.startTraffic(DISCARD_PORT, RATE);

  // when the agent is killed again and again, at work or while it starts, with commands before and between
  const interrupted: string[] = [];
  let starting: Promise<void> = Promise.resolve();
  for (let kill = 1; kill <= KILLS; kill++) {
    for (let count = Math.floor(random() * 3); count >= 0; count--) await sent.publish(commands.next());
    if (random() < 0.5) await sleep(random() * LONGEST_LIFE_MS);
    else await progressOf(random() * MOST_LINES);
    await stage.agent.kill('SIGKILL');
    await starting.catch(() => undefined);
    const lastWords = stage.agent.logs().at(-1);
    if (lastWords?.msg === 'step') interrupted.push(String(lastWords.phase));

    const seenBefore = await witnessed();
    const state = await stage.kernel();
    for (const list of LISTS) chainAt(state, { iface: stage.bed.iface, direction: DIRECTION[list] });
    if (random() < 0.3) await sent.publish(commands.next());
    await eventually(witnessed, (count) => count > seenBefore, 'packets should pass while the agent is away');

    starting = stage.agent.start();
    if (kill === KILLS || random() < 0.7) {
      await starting;
      await assertConverged(sent);
    } else {
      starting.catch(() => undefined);
    }
  }

  t.diagnostic(`killed during ${tally(interrupted)}`);
  assert.ok(interrupted.length > 0, 'no kill has met the agent at work');

  const acks = await assertConverged(sent);
  t.diagnostic(`answered ${tally(acks.map(({ status, code }) => code ?? status))}`);

  // and no packet was lost
  const packets = (await traffic.stop()) - (await stage.bed.lost());
  await eventually(witnessed, (count) => count >= packets, `${packets} packets should have come through`);
  assert.equal(await witnessed(), packets);
});
