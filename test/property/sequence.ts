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

/** A host with an agent, whatever its datapath. */
export interface World extends Addressee {
  readonly ifaces: readonly string[];
  send(verb: Verb, body: Uint8Array): Promise<Acknowledgement>;
  look(): Promise<Seen>;
  readonly read: ReadEntry;
  /** Sends a probe out of every interface and has it sent back; resolves when each has come back, to the places that it passed. */
  probe(model: Model): Promise<readonly Place[]>;
  /**
   * Does something to what is there behind the agent's back.
   *
   * @returns names of the programs whose maps are lost with it; undefined if there was nothing to do it to
   */
  damage(kind: Damage, place: Place, which: number, seen: Seen): Promise<readonly string[] | undefined>;
  /** Has the agent look after what is desired, or gives it time to, until `isMended` resolves; rejects as that does. */
  mend(isMended: () => Promise<void>): Promise<void>;
}

/**
 * Plays a sequence on a host that runs nothing, and holds what comes of each command against the model.
 *
 * @throws Error what was sent up to the command that came out differently, beside what was different
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

/** The answer says what the model expects, in its status, its code, and its word for each program. */
function assertAnswer(answer: Acknowledgement, expected: Expectation, command: ConcreteCommand, seen: Seen): void {
  const said = JSON.stringify(answer);
  assert.equal(answer.status, expected.status, said);
  const [first] = answer.errors;
  if (expected.codes.length > 0) {
    assert.ok(expected.codes.includes(answer.code ?? ''), `${expected.codes.join(' or ')}: ${said}`);
    assert.equal(first?.code, answer.code, said);
    if (expected.path !== undefined) assert.ok(first?.path?.startsWith(expected.path), `${expected.path}: ${said}`);
    // What has failed has told of the programs that still run.
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

/** A payload without the fields that say nothing; bytes that are no JSON as they are. */
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

/** Whatever was done to the host, it is as it should be after a repair. */
async function damageAndMend(kind: Damage, place: Place, which: number, model: Model, world: World): Promise<void> {
  const lost = await world.damage(kind, place, which, await world.look());
  if (lost === undefined) return;
  for (const name of lost) model.forgotten(place, name);
  await world.mend(async () => assertAsModelled(model, await world.look(), world.read));
  for (const other of await world.probe(model)) model.probed(other);
}
