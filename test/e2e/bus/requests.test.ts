import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { Msg } from 'nats';
import { FleetClient } from '../../../src/client/fleet-client.js';
import { parseReply, REQUEST_VERBS, REQUESTS, type RequestVerb } from '../../../src/messages/requests.js';
import { hostDataSchema, type L3AFALLHOSTDATA } from '../../../src/messages/snapshot.js';
import { STREAMS } from '../../../src/messages/subjects.js';
import { type BusBed, givenBusBed, HOST, IFACE, onXdp } from '../../support/bus-bed.js';
import { payloadProgram } from '../../support/packages.js';
import { until, untilGiven } from '../../support/until.js';

/*
 * What an agent answers to requests and publishes on its own, on the bus and over HTTP.
 */

const portCount = payloadProgram('port-count', { seq_id: 1 });
const portDrop = payloadProgram('port-drop', { seq_id: 2 });
const rateLimit = payloadProgram('rate-limit', { seq_id: 3, admin_status: 'disabled' });

const OTHER_HOST = 'web2.dc1.example';
const GATHER_MS = 1_000;

const PARAMETERS: Partial<Record<RequestVerb, unknown>> = {
  programs: { iface: IFACE },
  plan: { verb: 'delete', payload: [{ host_name: HOST, iface: IFACE, bpf_programs: { xdp_ingress: ['port-count'] } }] },
};

/** Sends a request to one host on its subject, as any NATS client can. */
async function ask({ controller }: BusBed, verb: string, body: string) {
  return controller.bus.nc.request(controller.subjects.request(verb), body, { timeout: 5_000 });
}

/** All answers to one request. */
async function askAll({ controller }: BusBed, subject: string, body = ''): Promise<Msg[]> {
  const replies = await controller.bus.nc.requestMany(subject, body, { maxWait: GATHER_MS });
  const gathered: Msg[] = [];
  for await (const reply of replies) gathered.push(reply);
  return gathered;
}

/** The snapshot without the parts that change from one snapshot to the next. */
function still(state: L3AFALLHOSTDATA): Omit<L3AFALLHOSTDATA, 'AllStats'> {
  const { AllStats: _, ...rest } = state;
  return rest;
}

/** The URL of metrics and health, from the agent's log. */
function telemetryUrl(logs: readonly { readonly msg: string; readonly [field: string]: unknown }[]): string {
  return String(logs.find(({ msg }) => msg === 'serving metrics and health')?.url);
}

/** A summary of the health page, with the names of the failed checks. */
async function health(url: string): Promise<{ status: number; healthy: boolean; wrong: string[] }> {
  const answer = await fetch(`${url}/healthz`);
  const { healthy, checks } = (await answer.json()) as { healthy: boolean; checks: { name: string; ok: boolean }[] };
  return { status: answer.status, healthy, wrong: checks.filter(({ ok }) => !ok).map(({ name }) => name) };
}

test('every verb is answered as its schema says, by one host and by all hosts', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  await bed.agent().start();
  const other = bed.agent({ hostName: OTHER_HOST, stateDir: join(bed.dir, 'other-state') });
  await other.start();
  await controller.send('deploy', onXdp(portCount, portDrop, rateLimit), { gen: 3 });

  const replies = new Map<string, unknown>();
  for (const verb of REQUEST_VERBS) {
    const body = verb in PARAMETERS ? JSON.stringify(PARAMETERS[verb]) : '';
    const reply = await ask(bed, verb, body);
    assert.equal(reply.headers?.get('Nats-Service-Error') ?? '', '', verb);
    replies.set(verb, parseReply(verb, reply.data));
    assert.deepEqual(REQUESTS[verb].reply.parse(reply.json()), reply.json(), `${verb} says no more than its schema`);
  }

  const { programs } = replies.get('programs') as ReturnType<typeof parseReply<'programs'>>;
  assert.deepEqual(
    programs.map(({ name, seq_id, running }) => [name, seq_id, running]),
    [
      ['port-count', 1, true],
      ['port-drop', 2, true],
      ['rate-limit', 3, false],
    ],
  );
  const status = replies.get('status') as ReturnType<typeof parseReply<'status'>>;
  assert.deepEqual([status.host, status.ready, status.gen, status.datapath], [HOST, true, 3, 'memory']);
  assert.deepEqual(
    status.hooks.map(({ iface, direction, attached, desired, running }) => [
      iface,
      direction,
      attached,
      desired,
      running,
    ]),
    [[IFACE, 'xdpingress', true, 2, 2]],
  );
  assert.equal(status.last_command?.id, 'deploy-1');
  assert.equal((replies.get('health') as ReturnType<typeof parseReply<'health'>>).healthy, true);
  const plan = replies.get('plan') as ReturnType<typeof parseReply<'plan'>>;
  assert.deepEqual([plan.changes, plan.outcomes.find(({ name }) => name === 'port-count')?.result], [true, 'stopped']);
  assert.equal((await controller.send('deploy', replies.get('config'))).status, 'unchanged', 'config is a deploy');

  const hosts = (await askAll(bed, controller.subjects.requestAll('status'))).map(
    (reply) => parseReply('status', reply.data).host,
  );
  assert.deepEqual(hosts.toSorted(), [HOST, OTHER_HOST]);
});

test('a faulty request is answered with a code and a sentence, and the next one is served', async (t) => {
  const bed = await givenBusBed(t);
  await bed.agent().start();
  const refused: [verb: string, body: string, code: string][] = [
    ['programs', '{', 'INVALID_JSON'],
    ['programs', '{"iface": 1}', 'INVALID_FIELD'],
    ['status', '{"unknown": true}', 'INVALID_FIELD'],
    ['plan', '[]', 'INVALID_FIELD'],
  ];

  for (const [verb, body, code] of refused) {
    const reply = await ask(bed, verb, body);
    assert.equal(reply.headers?.get('Nats-Service-Error-Code'), '400', `${verb} ${body}`);
    assert.notEqual(reply.headers?.get('Nats-Service-Error') ?? '', '');
    assert.equal(reply.json<{ code: string }>().code, code, `${verb} ${body}`);
    assert.equal(parseReply('status', (await ask(bed, 'status', '')).data).ready, true);
  }
});

test('an agent answers status requests during a long command', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const stalling = createServer();
  const asked = once(stalling, 'request');
  stalling.listen(0, '127.0.0.1');
  await once(stalling, 'listening');
  bed.atEnd(() => void stalling.close());
  await bed.agent().start();
  const { port } = stalling.address() as AddressInfo;
  const answered = controller.send(
    'deploy',
    onXdp({ ...portCount, ebpf_package_repo_url: `http://127.0.0.1:${port}` }),
  );
  const [, response] = (await asked) as [unknown, ServerResponse];

  const status = parseReply('status', (await ask(bed, 'status', '')).data);
  assert.deepEqual([status.ready, status.last_command], [true, undefined]);
  const { programs } = parseReply('programs', (await ask(bed, 'programs', '')).data);
  assert.deepEqual(programs, []);

  stalling.on('request', (_, other: ServerResponse) => void other.writeHead(404).end());
  response.writeHead(404).end();
  assert.equal((await answered).status, 'failed');
});

test('the agent is found as a NATS micro service that names its host', async (t) => {
  const bed = await givenBusBed(t);
  await bed.agent().start();
  await bed.agent({ hostName: OTHER_HOST, stateDir: join(bed.dir, 'other-state') }).start();

  const found = (await askAll(bed, '$SRV.INFO.l3af-agent')).map((reply) =>
    reply.json<{ name: string; metadata: { host: string }; endpoints: { subject: string }[] }>(),
  );

  assert.deepEqual(found.map(({ metadata }) => metadata.host).toSorted(), ['web1', 'web2_dc1_example']);
  const endpoints = found.find(({ metadata }) => metadata.host === 'web1')?.endpoints.map(({ subject }) => subject);
  const subjects = REQUEST_VERBS.flatMap((verb) => [`l3af.req.web1.${verb}`, `l3af.req.all.${verb}`]);
  assert.deepEqual(endpoints?.toSorted(), subjects.toSorted());
});

test('the stored state equals the state in answers', async (t) => {
  const bed = await givenBusBed(t);
  const { controller, server } = bed;
  await bed.agent().start();
  const fleet = await FleetClient.connect({ servers: [server.url] });
  bed.atEnd(() => fleet.close());
  const bucket = await controller.bus.js.views.kv(STREAMS.state);

  for (const payload of [onXdp(portCount, portDrop), onXdp(portDrop), []]) {
    await controller.send('deploy', payload);
    await controller.untilSettled();
    const asked = (payload as { bpf_programs: { xdp_ingress: { name: string }[] } }[]).flatMap(
      ({ bpf_programs: lists }) => lists.xdp_ingress.map(({ name }) => name),
    );
    const expected = asked.length === 0 ? [] : ['xdp-root', ...asked];
    // It follows the answer, which does not wait for it.
    const stored = await untilGiven('the snapshot after the command', async () => {
      const latest = hostDataSchema.parse((await bucket.get(HOST))?.json());
      const names = (latest.IngressXDPBpfs[IFACE] ?? []).map(({ Program }) => Program.name);
      return isDeepStrictEqual(names, expected) ? latest : undefined;
    });
    assert.deepEqual(still(stored), still(await fleet.request(HOST, 'state', {})));
  }
});

test('metrics are published on the bus and over HTTP, and health reports a lost broker', async (t) => {
  const bed = await givenBusBed(t);
  const { controller } = bed;
  const agent = bed.agent({ metricsAddr: '127.0.0.1:0', env: { L3AF_METRICS_INTERVAL: '200ms' } });
  const received: { host: string; metrics: { MetricName: string; Value: number }[] }[] = [];
  controller.bus.nc.subscribe(controller.subjects.metrics, {
    callback: (_, message) => void received.push(message.json()),
  });
  await agent.start();
  await controller.send('deploy', onXdp(portCount));

  const told = await untilGiven('metrics that know of the start', () =>
    received.find(({ metrics }) =>
      metrics.some(({ MetricName, Value }) => MetricName === 'l3afd_BPFStartCount' && Value > 0),
    ),
  );
  assert.equal(told.host, HOST);
  const url = telemetryUrl(agent.logs());
  const page = await fetch(`${url}/metrics`);
  assert.match(page.headers.get('content-type') ?? '', /^text\/plain/);
  const text = await page.text();
  for (const name of new Set(told.metrics.map(({ MetricName }) => MetricName))) assert.ok(text.includes(name), name);
  assert.deepEqual(await health(url), { status: 200, healthy: true, wrong: [] });

  await bed.server.kill('SIGKILL');
  const wrong = await untilGiven('the health page to tell that something is wrong', async () => {
    const page = await health(url);
    return page.healthy ? undefined : page;
  });
  assert.deepEqual(wrong, { status: 503, healthy: false, wrong: ['broker'] });
  await bed.server.restart();
  await until('health to be back', async () => (await health(url)).healthy);
});
