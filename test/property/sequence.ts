import assert from 'node:assert/strict';
import type { Verb } from '../../src/domain/command.js';
import type { Acknowledgement } from '../../src/messages/ack.js';
import { type Addressee, type ConcreteCommand, commandOf } from './commands.js';
import type { Damage, Intent } from './intents.js';
import { type Expectation, keyOf, Model, type Place } from './model.js';
import {
  assertAsModelled,
  assertStayed,
  chainIn,
  listOf,
  type ReadEntry,
  type Seen,
  type Standing,
  standingIn,
} from './seen.js';

/** A host with an agent, on any datapath. */
export interface World extends Addressee {
  readonly ifaces: readonly string[];
  send(verb: Verb, body: Uint8Array): Promise<Acknowledgement>;
  look(): Promise<Seen>;
  readonly read: ReadEntry;
  /**
   * Sends a probe packet out of every interface and back. Resolves to the places that were passed when all are back.
   */
  probe(model: Model): Promise<readonly Place[]>;
  /**
   * Damages the host from outside the agent.
   *
   * @returns names of the programs whose maps are lost; undefined if there was nothing to damage
   */
  damage(kind: Damage, place: Place, which: number, seen: Seen): Promise<readonly string[] | undefined>;
  /** Lets the agent repair the host until `isMended` resolves. Rejects if `isMended` keeps rejecting. */
  mend(isMended: () => Promise<void>): Promise<void>;
}

/**
 * Plays a sequence on a host that runs nothing, and compares the result of each command with the model.
 *
 * @throws Error with the difference and with everything that was sent until then
 */
export async function play(intents: readonly (Intent | undefined)[], world: World): Promise<void> {
  const model = new Model(world.ifaces);
  const told: (() => string)[] = [];
  let standing: Standing = new Map();
  try {
    for (const intent of intents) {
      if (intent === undefined) continue;
      if (intent.what === 'damage') {
        const place = model.places()[intent.at % model.places().length]!;
        told.push(() => `${intent.kind} at ${keyOf(place)} (${intent.which})`);
        await damageAndMend(intent.kind, place, intent.which, model, world);
        standing = standingIn(model, await world.look());
        continue;
      }
      const command = commandOf(intent, model, world);
      told.push(() => `${command.title}: ${command.verb} ${brief(command.body)}`);
      const expected = model.apply(command);
      const answer = await world.send(command.verb, command.body);
      const seen = await world.look();
      assertAnswer(answer, expected, command, seen);
      await assertAsModelled(model, seen, world.read);
      assertStayed(standing, standingIn(model, seen));
      standing = standingIn(model, seen);
      for (const place of await world.probe(model)) model.probed(place);
    }
    await assertAsModelled(model, await world.look(), world.read);
  } catch (cause) {
    const transcript = told.map((line, index) => `${index + 1}. ${line()}`).join('\n');
    throw new Error(`${cause instanceof Error ? cause.message : cause}\nafter\n${transcript}`, { cause });
  }
}

/** Asserts that status, code and the result of each program in the answer match the model. */
function assertAnswer(answer: Acknowledgement, expected: Expectation, command: ConcreteCommand, seen: Seen): void {
  const said = JSON.stringify(answer);
  assert.equal(answer.status, expected.status, said);
  const [first] = answer.errors;
  if (expected.codes.length > 0) {
    assert.ok(expected.codes.includes(answer.code ?? ''), `${expected.codes.join(' or ')}: ${said}`);
    assert.equal(first?.code, answer.code, said);
    if (expected.path !== undefined) assert.ok(first?.path?.startsWith(expected.path), `${expected.path}: ${said}`);
    // A failed command reports the programs that still run.
    assert.notEqual(answer.undone, false, said);
  } else {
    assert.deepEqual([answer.code, answer.errors], [undefined, []], said);
    const words = answer.programs.map((program): [string, string] => {
      const { iface, direction, name, version, result } = program;
      return [`${iface}/${listOf(direction)}/${name}@${version}`, result];
    });
    assert.equal(new Set(words.map(([program]) => program)).size, words.length, `a program twice: ${said}`);
    assert.deepEqual(Object.fromEntries(words.toSorted()), sortedByKey(expected.results), command.title);
  }
  for (const { iface, direction, name, prog_id: id, result } of answer.programs) {
    if (id === undefined) continue;
    const running = chainIn(seen, { iface, list: listOf(direction) }).find((program) => program.name === name);
    assert.equal(id, running?.id, `prog_id of ${name}, which is ${result}: ${said}`);
  }
}

/** A payload without meaningless fields. If it is not JSON, unchanged. */
function brief(body: Uint8Array): string {
  const text = Buffer.from(body).toString();
  try {
    return JSON.stringify(JSON.parse(text), (_key, value: unknown) => (says(value) ? value : undefined));
  } catch {
    return text;
  }
}

function says(value: unknown): boolean {
  return (
    typeof value === 'number' || (typeof value === 'object' && value !== null ? Object.keys(value).length > 0 : !!value)
  );
}

function sortedByKey(words: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(words).toSorted());
}

/** Damages the host and asserts that a repair restores the desired state. */
async function damageAndMend(kind: Damage, place: Place, which: number, model: Model, world: World): Promise<void> {
  const lost = await world.damage(kind, place, which, await world.look());
  if (lost === undefined) return;
  for (const name of lost) model.forgotten(place, name);
  await world.mend(async () => assertAsModelled(model, await world.look(), world.read));
  for (const other of await world.probe(model)) model.probed(other);
}
