import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Msg, RequestStrategy, type ServiceStats } from 'nats';
import { type RequestHandler, startService } from '../../../src/bus/service.js';
import { AgentError, type Fault, RefusedError } from '../../../src/errors.js';
import { readRefusal } from '../../../src/messages/refusal.js';
import { subjectsFor } from '../../../src/messages/subjects.js';
import type { TestServerOptions } from '../../support/nats.js';
import { atEnd, collectLog, type Given, givenBus, HOST, openBus, text } from './fixture.js';

async function givenService(
  t: TestContext,
  handlers: Record<string, RequestHandler>,
  options: TestServerOptions = {},
): Promise<Given & { ask: (verb: string, body?: string) => Promise<Msg> }> {
  const given = await givenBus(t, options);
  const { bus, subjects, log } = given;
  const service = await startService({ bus, subjects, host: HOST, version: '1.2.3', handlers, logger: log });
  atEnd(t, () => service.stop());
  await bus.nc.flush();
  const ask = (verb: string, body = '') =>
    given.controller.bus.nc.request(subjects.request(verb), body, { timeout: 5_000 });
  return { ...given, ask };
}

test('a request is answered with JSON and its body is parsed; an empty body means no parameters', async (t) => {
  const { ask } = await givenService(t, {
    status: async (request, raw) => ({ request: request ?? 'none', bytes: raw.length }),
  });

  assert.deepEqual((await ask('status', '{"deep":[1]}')).json(), { request: { deep: [1] }, bytes: 12 });
  assert.deepEqual((await ask('status')).json(), { request: 'none', bytes: 0 });
});

test('a failure is answered with its code and sentence, and the service continues', async (t) => {
  const { ask, log } = await givenService(t, {
    plan: async () => {
      throw new AgentError('INVALID_FIELD', 'Expected a verb,\ngot a fish');
    },
    state: async () => {
      throw new TypeError('a bug');
    },
    health: async () => ({ healthy: true }),
  });

  const invalid = await ask('plan');
  const fault = { code: 'INVALID_FIELD', message: 'Expected a verb,\ngot a fish' };
  assert.deepEqual(invalid.json(), { ...fault, errors: [fault] });
  assert.equal(invalid.headers?.get('Nats-Service-Error-Code'), '400');
  assert.equal(invalid.headers?.get('Nats-Service-Error'), 'Expected a verb, got a fish');

  const bug = await ask('state');
  assert.deepEqual(bug.json(), { code: 'INTERNAL', message: 'a bug' });
  assert.equal(bug.headers?.get('Nats-Service-Error-Code'), '500');
  assert.equal(log.count('a request could not be answered'), 1);

  const garbled = await ask('health', '{');
  assert.equal(garbled.json<{ code: string }>().code, 'INVALID_JSON');
  assert.deepEqual((await ask('health')).json(), { healthy: true });
});

test('a request that two readers may understand differently is refused with the path', async (t) => {
  const { ask } = await givenService(t, { plan: async (request) => request });

  const twice = await ask('plan', '{"verb":"deploy","payload":[{"a":1,"a":2}]}');

  assert.equal(twice.headers?.get('Nats-Service-Error-Code'), '400');
  const message = 'Expected every key of an object once, got "a" twice';
  assert.deepEqual(twice.json<{ errors: Fault[] }>().errors, [{ code: 'INVALID_FIELD', path: 'payload.0.a', message }]);
  assert.deepEqual((await ask('plan', '{"payload":[1]}')).json(), { payload: [1] });
});

test('an answer that is too large for the server becomes a failure', async (t) => {
  const { ask } = await givenService(t, { state: async () => 'x'.repeat(2_000_000) });

  const answer = await ask('state');

  assert.equal(answer.json<{ code: string }>().code, 'ANSWER_TOO_LARGE');
  assert.match(answer.headers?.get('Nats-Service-Error') ?? '', /^The answer is larger .* raise its max_payload$/);
});

test('a refusal that is too large for the server is shortened', async (t) => {
  const faults = Array.from({ length: 100 }, (_, index) => {
    const detail = 'the verifier had much to say '.repeat(50);
    return { path: `0.bpf_programs.xdp_ingress.${index}`, code: 'VERIFIER_REJECTED' as const, message: 'No', detail };
  });
  const refuse = async () => {
    throw new RefusedError(faults as [Fault, ...Fault[]]);
  };
  const given = await givenService(t, { plan: refuse }, { config: 'max_payload: 8192' });

  const { code, message, errors } = readRefusal((await given.ask('plan')).data, '');

  assert.equal(code, 'VERIFIER_REJECTED');
  assert.match(message, /^No \(and 99 more\) \(shortened to what the server allows: (\d+) of 100 errors\)$/);
  assert.equal(String(errors?.length), /(\d+) of 100/.exec(message)?.[1]);
  assert.deepEqual(errors?.[0]?.path, faults[0]?.path);
});

test('a refusal with one sentence that is too long for the server is cut to its beginning', async (t) => {
  const refuse = async () => {
    throw new AgentError('OBJECT_INVALID', 'much to say\n'.repeat(1_000));
  };
  const { ask } = await givenService(t, { plan: refuse }, { config: 'max_payload: 2048' });

  const answer = await ask('plan');

  assert.equal(answer.json<{ code: string }>().code, 'OBJECT_INVALID');
  assert.match(answer.headers?.get('Nats-Service-Error') ?? '', /^much to say much to say /);
});

test('a request to all is answered by every host, once by each', async (t) => {
  const { server, controller, subjects } = await givenService(t, { status: async () => HOST });
  const other = await openBus(t, server, collectLog(), 'web2');
  const options = { version: '1.2.3', logger: collectLog(), handlers: { status: async () => 'web2' } };
  const service = await startService({ ...options, bus: other, subjects: subjectsFor('l3af', 'web2'), host: 'web2' });
  atEnd(t, () => service.stop());
  await other.nc.flush();

  const answers: string[] = [];
  for await (const answer of await controller.bus.nc.requestMany(subjects.requestAll('status'), '', { maxWait: 500 })) {
    answers.push(text(answer.data));
  }

  assert.deepEqual(answers.toSorted(), ['"web1"', '"web2"']);
});

test('the service is found by name, with its host, and shows failures in its statistics', async (t) => {
  const { controller, ask } = await givenService(t, {
    state: async () => {
      throw new Error('no');
    },
  });
  await ask('state');

  const client = controller.bus.nc.services.client({ maxWait: 500, strategy: RequestStrategy.Timer });
  const found: ServiceStats[] = [];
  for await (const stats of await client.stats('l3af-agent')) found.push(stats);

  const [stats] = found;
  assert.equal(found.length, 1);
  assert.equal(stats?.version, '1.2.3');
  assert.deepEqual(stats?.metadata, { host: HOST });
  const endpoint = stats?.endpoints?.find(({ name }) => name === 'state');
  assert.deepEqual(endpoint?.data, { failures: { count: 1, last: 'no' } });
});
