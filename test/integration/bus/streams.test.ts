import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nanos, type StreamConfig } from 'nats';
import { coversSubject, streamSpecs } from '../../../src/bus/stream-specs.js';
import { ensureStreams } from '../../../src/bus/streams.js';
import { STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { startNats } from '../../support/nats.js';
import { atEnd, collectLog, givenBus, HOST, openBus } from './fixture.js';

const subjects = subjectsFor('l3af', HOST);

test('on an empty server, every stream and bucket is created; a second start changes nothing', async (t) => {
  const { bus, log } = await givenBus(t);
  const names = streamSpecs(subjects).map(({ config }) => config.name);
  const before = await Promise.all(names.map((name) => bus.jsm.streams.info(name)));

  const facts = await ensureStreams(bus, subjects, log);

  assert.deepEqual(facts, { hostsTtlMs: 60_000 });
  assert.deepEqual(names.toSorted(), ['KV_L3AF_HOSTS', 'KV_L3AF_STATE', 'L3AF_ACK', 'L3AF_CMD', 'L3AF_EVT']);
  const after = await Promise.all(names.map((name) => bus.jsm.streams.info(name)));
  assert.deepEqual(
    after.map(({ config, created }) => ({ config, created })),
    before.map(({ config, created }) => ({ config, created })),
  );
});

test('a state bucket lets its keys be read and written, and refuses to be rolled up', async (t) => {
  const { bus } = await givenBus(t);
  const kv = await bus.js.views.kv(STREAMS.state, { bindOnly: true, allow_direct: true });
  await kv.put('web1', 'first');
  await kv.put('web1', 'second');
  await kv.put('web2', 'other');

  assert.equal((await kv.get('web1'))?.string(), 'second');
  await assert.rejects(kv.purge('web1'), /rollup not permitted/);
  assert.equal((await kv.get('web2'))?.string(), 'other');
});

test('streams created by others are accepted if their settings suffice, and left unchanged', async (t) => {
  const server = await startNats();
  atEnd(t, () => server.stop());
  const bus = await openBus(t, server, collectLog());
  const wide: Partial<StreamConfig> = {
    name: STREAMS.commands,
    subjects: ['l3af.cmd.>', 'somewhere.else'],
    description: 'made by the controller',
    discard: 'new' as StreamConfig['discard'],
    duplicate_window: nanos(48 * 3600_000),
    allow_direct: true,
  };
  await bus.jsm.streams.add(wide);

  await ensureStreams(bus, subjects, collectLog());

  const { config } = await bus.jsm.streams.info(STREAMS.commands);
  assert.equal(config.description, 'made by the controller');
  assert.deepEqual(config.subjects, ['l3af.cmd.>', 'somewhere.else']);
});

const UNFIT: readonly (readonly [string, Partial<StreamConfig>, RegExp])[] = [
  [
    'subjects',
    { subjects: ['l3af.cmd.web1.*'] },
    /L3AF_CMD.*subjects is \["l3af.cmd.web1.\*"\], wanted .*l3af\.cmd\.\*\.\*/,
  ],
  ['retention', { retention: 'workqueue' as StreamConfig['retention'] }, /retention is "workqueue", wanted "limits"/],
  ['discard', { discard: 'old' as StreamConfig['discard'] }, /discard is "old", wanted "new"/],
  ['storage', { storage: 'memory' as StreamConfig['storage'] }, /storage is "memory", wanted "file"/],
  ['max_age', { max_age: nanos(30 * 24 * 3600_000) }, /max_age is \d+, wanted 0/],
  ['max_msgs_per_subject', { max_msgs_per_subject: 10 }, /max_msgs_per_subject is 10, wanted -1/],
  ['duplicate_window', { duplicate_window: nanos(120_000) }, /duplicate_window is 120000000000, wanted at least/],
  ['allow_direct', { allow_direct: false }, /allow_direct is (null|false), wanted true/],
];

for (const [setting, unfit, complaint] of UNFIT) {
  test(`a command stream with an unfit ${setting} is refused with the found and the wanted value`, async (t) => {
    const server = await startNats();
    atEnd(t, () => server.stop());
    const bus = await openBus(t, server, collectLog());
    const [fit] = streamSpecs(subjects);
    await bus.jsm.streams.add({ ...fit?.config, ...unfit });

    await assert.rejects(ensureStreams(bus, subjects, collectLog()), {
      code: 'STREAM_INCOMPATIBLE',
      message: complaint,
    });
  });
}

test('a stream of another name on our subjects is refused', async (t) => {
  const server = await startNats();
  atEnd(t, () => server.stop());
  const bus = await openBus(t, server, collectLog());
  await bus.jsm.streams.add({ name: 'OTHERS', subjects: ['l3af.ack.web1'] });

  await assert.rejects(ensureStreams(bus, subjects, collectLog()), {
    code: 'STREAM_INCOMPATIBLE',
    message: /captures subjects of L3AF_ACK/,
  });
});

test('an account that may not create streams uses the existing ones, and the error names the absent one', async (t) => {
  const deny = ['STREAM.CREATE.>', 'STREAM.UPDATE.>'].map((subject) => `"$JS.API.${subject}"`).join(', ');
  const server = await startNats({
    config: `authorization { users: [
      {user: controller, password: c},
      {user: agent, password: a, permissions: {publish: {deny: [${deny}]}}} ] }`,
  });
  atEnd(t, () => server.stop());
  const as = (user: string) => openBus(t, { url: server.url.replace('//', `//${user}@`) }, collectLog());
  const agent = await as('agent:a');

  await assert.rejects(ensureStreams(agent, subjects, collectLog()), {
    code: 'STREAM_INCOMPATIBLE',
    message: /L3AF_CMD does not exist and this account may not create it/,
  });
  await ensureStreams(await as('controller:c'), subjects, collectLog());
  assert.deepEqual(await ensureStreams(agent, subjects, collectLog()), { hostsTtlMs: 60_000 });
});

test('a pattern covers a subject only when it matches all that the subject matches', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['l3af.cmd.*.*', 'l3af.cmd.*.*', true],
    ['l3af.cmd.>', 'l3af.cmd.*.*', true],
    ['>', 'l3af.cmd.*.*', true],
    ['l3af.cmd.*.*', 'l3af.cmd.>', false],
    ['l3af.cmd.*.deploy', 'l3af.cmd.*.*', false],
    ['l3af.cmd.*', 'l3af.cmd.*.*', false],
    ['l3af.cmd.*.*.*', 'l3af.cmd.*.*', false],
    ['l3af.cmd.*.*.>', 'l3af.cmd.*.*', false],
  ];
  for (const [pattern, subject, covers] of cases) {
    assert.equal(coversSubject(pattern, subject), covers, `${pattern} and ${subject}`);
  }
});
