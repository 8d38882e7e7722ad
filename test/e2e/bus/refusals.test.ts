import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { FleetClient } from '../../../src/client/fleet-client.js';
import { STREAMS } from '../../../src/messages/subjects.js';
import type { AgentProcess, AgentProcessOptions } from '../../support/agent-process.js';
import { type BusBed, givenBusBed, HOST, onXdp } from '../../support/bus-bed.js';
import { makeCertificate } from '../../support/certificate.js';
import { shell } from '../../support/l3afctl.js';
import { freePort, startNats } from '../../support/nats.js';
import { payloadProgram } from '../../support/packages.js';
import { until, untilGiven } from '../../support/until.js';

/* What a whole agent and l3afctl make of servers that refuse something. */

const portCount = payloadProgram('port-count', { seq_id: 1 });

interface Health {
  readonly status: number;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly message?: string }[];
}

interface Watched {
  readonly agent: AgentProcess;
  health(): Promise<Health>;
  /** A metric without labels, by its name after `l3af_agent_`. */
  metric(name: string): Promise<number>;
}

async function givenAgent(bed: BusBed, options: Partial<AgentProcessOptions> = {}): Promise<Watched> {
  const address = `127.0.0.1:${await freePort()}`;
  const agent = bed.agent({ metricsAddr: address, ...options });
  return {
    agent,
    health: async () => {
      const response = await fetch(`http://${address}/healthz`);
      return { status: response.status, ...((await response.json()) as Omit<Health, 'status'>) };
    },
    metric: async (name) => {
      const text = await (await fetch(`http://${address}/metrics`)).text();
      return Number(new RegExp(`^l3af_agent_${name} (\\S+)$`, 'm').exec(text)?.[1]);
    },
  };
}

function untilCheck({ health }: Watched, name: string, message: RegExp): Promise<Health> {
  return untilGiven(`the check ${name} to say ${message}`, async () => {
    const now = await health();
    const check = now.checks.find((one) => one.name === name);
    return check?.ok === false && message.test(check.message ?? '') ? now : undefined;
  });
}

async function untilWell({ health }: Watched): Promise<void> {
  await until('the host to be healthy', async () => (await health()).status === 200);
}

test('a host tells while nothing can be stored, which stream and why, and keeps its answers until it can', async (t) => {
  const bed = await givenBusBed(t, {
    kind: 'current',
    jetstream: 'jetstream { store_dir: STORE, max_file_store: 200KB }',
  });
  const { controller } = bed;
  const watched = await givenAgent(bed);
  await watched.agent.start();
  await untilWell(watched);
  await controller.bus.jsm.streams.add({ name: 'OTHER', subjects: ['other'] });
  const command = await controller.publish('deploy', onXdp(portCount));
  await until('the first answer', async () => (await controller.acks()).length === 1);
  await assert.rejects(async () => {
    for (;;) await controller.bus.js.publish('other', 'x'.repeat(2_000));
  });

  const ill = await untilCheck(watched, 'storing', /no space left for L3AF_HOSTS.*max_file_store/);
  const [metric, refused] = [
    await watched.metric('cannot_store'),
    await shell(`echo '[]' | l3afctl deploy --host ${HOST} -f -`, { natsUrl: bed.server.url }),
  ];
  await controller.bus.jsm.streams.purge('OTHER');
  await untilWell(watched);

  assert.equal(ill.status, 503);
  assert.equal(metric, 1);
  assert.equal(refused.code, 1);
  assert.match(refused.error, /no space left for L3AF_CMD.*is not stored$/m);
  assert.equal(await watched.metric('cannot_store'), 0);
  assert.equal((await controller.acks())[0]?.id, command.id);
});

test('a host waits for JetStream to be enabled, or for a limit to be lifted, and says which', async (t) => {
  const bed = await givenBusBed(t, { kind: 'current' });
  const port = await freePort();
  const without = await startNats({ kind: 'current', jetstream: '', port });
  bed.atEnd(() => without.stop());
  const other = await givenAgent(bed, { natsUrl: without.url });
  const starting = other.agent.start();
  const ill = await untilCheck(other, 'storing', /JetStream .*not enabled/);
  await without.kill('SIGTERM');
  const withIt = await startNats({ kind: 'current', port });
  bed.atEnd(() => withIt.stop());
  await starting;
  await untilWell(other);

  assert.equal(ill.status, 503);
  assert.equal(other.agent.logs().filter(({ level }) => level === 'fatal').length, 0);
});

test('a host without a leader for its consumer tells so, in health, status and metrics, until it has one', async (t) => {
  const bed = await givenBusBed(t, { kind: 'cluster', replicas: 1 });
  const { controller, server } = bed;
  const urls = server.members.map(({ url }) => url).join(',');
  const watched = await givenAgent(bed, { env: { L3AF_NATS_URL: urls } });
  await watched.agent.start();
  await controller.send('deploy', onXdp(portCount));
  const leader = await untilGiven('the leader of the consumer', async () => {
    const { cluster } = await controller.bus.jsm.consumers.info(STREAMS.commands, HOST);
    return server.members.find(({ name }) => name === cluster?.leader);
  });

  await leader.kill('SIGKILL');
  const ill = await untilCheck(watched, 'consuming', /^Commands cannot be taken: /);
  const client = await FleetClient.connect({ servers: urls.split(',') });
  bed.atEnd(() => client.close());
  const status = await client.status(HOST);
  const shown = await shell('l3afctl status', { natsUrl: urls });
  const metric = await watched.metric('cannot_consume');
  await leader.restart();
  await untilWell(watched);

  assert.equal(ill.status, 503);
  assert.deepEqual([status.ready, status.troubles?.some(({ task }) => task === 'consuming'), metric], [false, true, 1]);
  assert.match(shown.out, /cannot consume.*\n(.*\n)*web1: Commands cannot be taken: /);
  assert.equal(await watched.metric('cannot_consume'), 0);
  assert.equal((await client.status(HOST)).ready, true);
});

test('an agent and l3afctl use user and password, TLS to an address and the handshake first, by settings', async (t) => {
  const bed = await givenBusBed(t);
  const { cert, key } = await makeCertificate(bed.dir, 'IP:127.0.0.1');
  const server = await startNats({
    kind: 'current',
    isSilent: true,
    config: `tls { cert_file: "${cert}", key_file: "${key}", handshake_first: true }
      authorization { user: fleet, password: "p@ss/w:rd" }`,
  });
  bed.atEnd(() => server.stop());
  const outsider = await givenAgent(bed, { natsUrl: server.url, stateDir: join(bed.dir, 'outsider') });
  void outsider.agent.start().catch(() => {});
  await untilCheck(outsider, 'broker', /no connection to NATS\. .*set nats_tls_handshake_first/);
  await outsider.agent.kill('SIGKILL');
  const [user, password] = [join(bed.dir, 'user'), join(bed.dir, 'password')];
  await writeFile(user, 'fleet\n');
  await writeFile(password, 'p@ss/w:rd\n');
  const settings = {
    L3AF_NATS_USER_FILE: user,
    L3AF_NATS_PASSWORD_FILE: password,
    L3AF_NATS_TLS_CA: cert,
    L3AF_NATS_TLS_HANDSHAKE_FIRST: 'true',
  };
  const watched = await givenAgent(bed, { natsUrl: server.url, env: settings });
  // It looks for the agent without these settings, in vain.
  const starting = watched.agent.start();
  starting.catch(() => {});
  await untilWell(watched);

  const flags = `--user-file ${user} --password-file ${password} --tls-ca ${cert} --tls-handshake-first`;
  const listed = await shell(`l3afctl status ${flags}`, { natsUrl: server.url });
  const refused = await shell(`l3afctl --tls-ca ${cert} --tls-handshake-first status`, { natsUrl: server.url });
  const silent = await shell(`l3afctl status --tls-ca ${cert}`, { natsUrl: server.url });

  assert.match(listed.out, /web1 .* ready/);
  assert.match(refused.error, /refused the credentials; check/);
  assert.match(silent.error, /set nats_tls_handshake_first/);
  assert.deepEqual([listed.code, refused.code, silent.code], [0, 4, 4]);
});

test('an agent whose metrics address is taken says so, runs, and serves it as soon as it is free', async (t) => {
  const bed = await givenBusBed(t);
  const squatter = createServer().listen(0, '127.0.0.1');
  await once(squatter, 'listening');
  bed.atEnd(() => squatter.close());
  const { port } = squatter.address() as AddressInfo;
  const agent = bed.agent({ metricsAddr: `127.0.0.1:${port}` });

  await agent.start();
  const answer = await bed.controller.send('deploy', onXdp(portCount));
  const told = agent.logs().find(({ msg }) => msg === 'cannot serve metrics and health; trying again');
  squatter.close();
  await until('it to be served', () => agent.logs().some(({ msg }) => msg === 'serving metrics and health'));

  assert.equal(answer.status, 'applied');
  assert.match((told?.err as Error | undefined)?.message ?? '', new RegExp(`${port} is in use by another process`));
  assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200);
});
