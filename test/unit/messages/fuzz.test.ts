import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Fault, RefusedError } from '../../../src/errors.js';
import { parseCommand } from '../../../src/messages/parse.js';
import { repeats } from '../../support/repeats.js';
import { Mutator } from './mutate.js';
import { bytes, DELETE_PAYLOAD, FLEET_PAYLOAD, HOST } from './payloads.js';

const STRUCTURAL = repeats({ usual: 1_200, full: 12_000 });
const RAW = repeats({ usual: 800, full: 8_000 });
const CASES = [
  ['deploy', FLEET_PAYLOAD],
  ['add', FLEET_PAYLOAD],
  ['delete', DELETE_PAYLOAD],
] as const;

describe('parseCommand with any input', () => {
  it(`makes a command or a refusal with existing places from ${STRUCTURAL} payloads with a changed structure`, () => {
    const mutator = new Mutator(20_260_131);
    const outcomes = { command: 0, refusal: 0 };
    for (let round = 0; round < STRUCTURAL; round += 1) {
      const [verb, payload] = mutator.pick(CASES);
      outcomes[judge(verb, bytes(mutator.structure(payload)))] += 1;
    }

    assert.ok(
      outcomes.command > STRUCTURAL / 120,
      `only ${outcomes.command} commands: the mutations are too strong for a useful test`,
    );
    assert.ok(
      outcomes.refusal > STRUCTURAL / 12,
      `only ${outcomes.refusal} refusals: the mutations are too weak for a useful test`,
    );
    assert.equal(Reflect.get({}, 'polluted'), undefined);
  });

  it(`makes a command or a refusal from ${RAW} payloads with changed bytes`, () => {
    const mutator = new Mutator(7);
    const outcomes = { command: 0, refusal: 0 };
    for (let round = 0; round < RAW; round += 1) {
      const [verb, payload] = mutator.pick(CASES);
      outcomes[judge(verb, mutator.bytes(bytes(payload)))] += 1;
    }

    assert.equal(outcomes.command + outcomes.refusal, RAW);
  });

  it('does not grow', () => {
    const warmUp = heapAfter(RAW / 4);
    const after = heapAfter(RAW);

    assert.ok(after < warmUp * 1.5, `the heap grew from ${warmUp} to ${after} bytes`);
  });
});

function judge(verb: string, body: Uint8Array): 'command' | 'refusal' {
  try {
    assert.equal(parseCommand(verb, body, HOST).verb, verb);
    return 'command';
  } catch (error) {
    assert.ok(error instanceof RefusedError, `${verb} of ${new TextDecoder().decode(body)} threw ${error}`);
    assert.ok(error.faults.length >= 1 && error.faults.length <= 50);
    for (const fault of error.faults) assertPlaced(fault, body);
    return 'refusal';
  }
}

/** The fault's path leads to something that exists in the payload, or that would contain it. */
function assertPlaced(fault: Fault, body: Uint8Array): void {
  assert.ok(fault.message.length < 1000);
  assert.equal(Buffer.from(fault.message).toString(), fault.message, 'lone surrogates would be lost in transit');
  if (fault.path === undefined) return;
  const keys = fault.path.split('.');
  let value: unknown = JSON.parse(new TextDecoder().decode(body));
  for (const key of keys.slice(0, -1)) {
    assert.ok(typeof value === 'object' && value !== null && Object.hasOwn(value, key), `${fault.path} leads nowhere`);
    value = (value as Record<string, unknown>)[key];
  }
  assert.ok(typeof value === 'object' && value !== null, `${fault.path} leads nowhere`);
}

const collectGarbage = exposeGc();

function heapAfter(rounds: number): number {
  const mutator = new Mutator(rounds);
  for (let round = 0; round < rounds; round += 1) {
    const [verb, payload] = mutator.pick(CASES);
    judge(verb, bytes(mutator.structure(payload)));
  }
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

function exposeGc(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}
