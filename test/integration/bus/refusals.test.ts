import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Bus, connectBus } from '../../../src/bus/connect.js';
import { ensureConsumer } from '../../../src/bus/consumer.js';
import { ensureStreams } from '../../../src/bus/streams.js';
import type { ConnectOptions } from '../../../src/client/connection.js';
import { FleetClient } from '../../../src/client/fleet-client.js';
import { STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { makeCertificate } from '../../support/certificate.js';
import { startNats, type TestServer, type TestServerOptions } from '../../support/nats.js';
import { until } from '../../support/until.js';
import { atEnd, collectLog, HOST } from './fixture.js';

/*
 * Servers whose configuration refuses something, both as Debian 12 has them and current ones: whoever is refused learns
 * what happened and what to do, in words.
 */

const subjects = subjectsFor('l3af', HOST);

async function givenServer(t: TestContext, options: TestServerOptions): Promise<TestServer> {
  const server = await startNats(options);
  atEnd(t, () => server.stop());
  return server;
}

async function givenAgentBus(t: TestContext, { url }: TestServer): Promise<Bus> {
  const bus = await connectBus({ servers: [url], name: 'agent', signal: AbortSignal.timeout(10_000) }, collectLog());
  atEnd(t, () => bus.close());
  return bus;
}

async function givenClient(t: TestContext, options: ConnectOptions): Promise<FleetClient> {
  const client = await FleetClient.connect(options);
  atEnd(t, () => client.close());
  return client;
}

async function givenDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'l3af-refusals-'));
  atEnd(t, () => rm(dir, { recursive: true, force: true }));
  return dir;
}

const account = (limits: string) =>
  `accounts { A { jetstream: { ${limits} }, users: [ {user: a, password: a} ] } }\nno_auth_user: a`;

for (const kind of ['installed', 'current'] as const) {
  test(`an account that demands a size of every stream is named, to agent and client (${kind})`, async (t) => {
    const server = await givenServer(t, { kind, config: account('max_file: 500M, max_bytes_required: true') });
    const bus = await givenAgentBus(t, server);
    void ensureStreams(bus, subjects, collectLog()).catch(() => {});
    const client = await givenClient(t, { servers: [server.url] });

    await until('the agent to say so', () =>
      bus.troubles.list().some(({ message }) => /max_bytes_required/.test(message)),
    );
    await assert.rejects(client.publish('deploy', HOST, []), {
      code: 'BROKER_REFUSED',
      message: /max_bytes_required.*L3AF_CMD.*max_bytes.*is not stored$/,
    });
    await bus.jsm.streams.add({ name: 'UNRELATED', subjects: ['unrelated'], max_bytes: 1_000 });
  });

  test(`streams are created where the account grants few consumers, and the host too many is told (${kind})`, async (t) => {
    const server = await givenServer(t, { kind, config: account('max_file: 500M, max_consumers: 3') });
    const bus = await givenAgentBus(t, server);
    await ensureStreams(bus, subjects, collectLog());
    const take = (name: string) => {
      const spec = {
        name,
        filter: `l3af.cmd.${name}.*`,
        ackWaitMs: 30_000,
        after: 0,
        skip: false,
        lastSeq: 0,
        replicas: 1,
      };
      return ensureConsumer(bus, spec, collectLog());
    };
    for (const name of ['a', 'b', 'c']) await take(name);

    await assert.rejects(take('d'), /maximum consumers limit reached/);
    assert.equal((await bus.jsm.streams.info(STREAMS.commands)).config.max_consumers, -1);
  });

  test(`a server or an account without JetStream is told from one without streams (${kind})`, async (t) => {
    const without = await givenServer(t, { kind, jetstream: '' });
    const notForAccount = await givenServer(t, {
      kind,
      config: 'accounts { A { users: [ {user: a, password: a} ] } }\nno_auth_user: a',
    });
    const empty = await givenServer(t, { kind });

    for (const { url } of [without, notForAccount]) {
      const client = await givenClient(t, { servers: [url] });
      await assert.rejects(client.publish('deploy', HOST, []), {
        code: 'BROKER_REFUSED',
        message: /JetStream .*not enabled.*is not stored$/,
      });
    }
    const client = await givenClient(t, { servers: [empty.url] });
    await assert.rejects(client.publish('deploy', HOST, []), /no agent or controller has created L3AF_CMD/);
  });

  test(`a store or a stream that is full is called full, and the command not stored (${kind})`, async (t) => {
    const server = await givenServer(t, { kind, jetstream: 'jetstream { store_dir: STORE, max_file_store: 200KB }' });
    const bus = await givenAgentBus(t, server);
    await ensureStreams(bus, subjects, collectLog());
    const client = await givenClient(t, { servers: [server.url] });
    const fill = async () => {
      for (;;) await client.publish('deploy', HOST, 'x'.repeat(10_000));
    };

    await assert.rejects(fill(), {
      code: 'BROKER_REFUSED',
      transient: true,
      message: /no space left for L3AF_CMD.*max_file_store.*is not stored$/,
    });
    await bus.jsm.streams.purge(STREAMS.commands);
    await bus.jsm.streams.update(STREAMS.commands, { max_msgs: 1 });
    await client.publish('deploy', HOST, []);
    await assert.rejects(client.publish('deploy', HOST, []), /L3AF_CMD is full.*max_msgs.*is not stored$/);
  });

  test(`what is too large, or meets a sealed stream, is not stored, and not to be sent again (${kind})`, async (t) => {
    const server = await givenServer(t, { kind, config: 'max_payload: 4096' });
    const bus = await givenAgentBus(t, server);
    await ensureStreams(bus, subjects, collectLog());
    const client = await givenClient(t, { servers: [server.url] });
    const rejects = (payload: string, message: RegExp) =>
      assert.rejects(client.publish('deploy', HOST, payload), { code: 'BROKER_REFUSED', transient: false, message });

    await rejects('x'.repeat(5_000), /max_payload, 4096 bytes.*is not stored$/);
    await bus.jsm.streams.update(STREAMS.commands, { max_msg_size: 100 });
    await rejects('x'.repeat(200), /larger than the stream L3AF_CMD allows.*is not stored$/);
    await bus.jsm.streams.update(STREAMS.commands, { sealed: true } as object);
    await rejects('x', /L3AF_CMD is sealed.*is not stored$/);
  });

  test(`user and password, or a token, are read from files, also again when they have changed (${kind})`, async (t) => {
    const dir = await givenDir(t);
    const files = { userFile: join(dir, 'user'), passwordFile: join(dir, 'password') };
    const server = await givenServer(t, { kind, config: 'authorization { user: fleet, password: "p@ss/w:rd " }' });
    const withToken = await givenServer(t, { kind, config: 'authorization { token: "t@k/n" }' });
    await writeFile(files.userFile, 'fleet\n');
    await writeFile(files.passwordFile, 'wrong\n');
    await writeFile(join(dir, 'token'), 't@k/n');

    await assert.rejects(FleetClient.connect({ servers: [server.url], ...files }), {
      code: 'BROKER_UNREACHABLE',
      message: /the NATS server refused the credentials; check/,
    });
    const log = collectLog();
    const connecting = connectBus({ servers: [server.url], name: 'agent', ...files }, log);
    await until('the refusal', () => log.count('cannot connect to NATS; trying again') > 0);
    await writeFile(files.passwordFile, 'p@ss/w:rd \r\n');
    atEnd(t, (await connecting).close);
    await givenClient(t, { servers: [server.url], ...files });
    await givenClient(t, { servers: [withToken.url], tokenFile: join(dir, 'token') });
    await writeFile(files.userFile, '');
    await assert.rejects(FleetClient.connect({ servers: [server.url], ...files }), { code: 'CONFIG_INVALID' });
    await assert.rejects(FleetClient.connect({ servers: [server.url], userFile: files.userFile }), {
      code: 'CONFIG_INVALID',
      message: /only work together/,
    });
  });

  test(`a server named by its address must have a certificate for that address (${kind})`, async (t) => {
    const dir = await givenDir(t);
    const serve = async (names: string) => {
      const { cert, key } = await makeCertificate(dir, names);
      const config = `tls { cert_file: "${cert}", key_file: "${key}" }`;
      return { ...(await givenServer(t, { kind, config })), tls: { caFile: cert } };
    };
    const ours = await serve('IP:127.0.0.1');
    const localhost = await serve('DNS:localhost,IP:127.0.0.2');

    const client = await givenClient(t, { servers: [ours.url], tls: ours.tls });
    await assert.rejects(client.publish('deploy', HOST, []), /has created L3AF_CMD/);
    await assert.rejects(FleetClient.connect({ servers: [localhost.url], tls: localhost.tls }), {
      message:
        /certificate of the NATS server is for another name: it is for localhost, 127\.0\.0\.2, not for 127\.0\.0\.1/,
    });
    await givenClient(t, { servers: [`tls://localhost:${localhost.port}`], tls: localhost.tls });
    await assert.rejects(FleetClient.connect({ servers: [`tls://localhost:${ours.port}`], tls: ours.tls }), {
      message: /for another name: .*localhost/,
    });
    // Without any TLS setting, and as an agent whose connection is lost.
    await assert.rejects(FleetClient.connect({ servers: [ours.url] }), /not signed by an authority that is known here/);
    const bus = await connectBus({ servers: [ours.url], name: 'agent', tls: ours.tls }, collectLog());
    atEnd(t, bus.close);
    await ours.kill('SIGKILL');
    await until('the loss', () => !bus.connection.connected);
    await ours.restart();
    await until('the connection', () => bus.connection.connected);
  });

  test(`a server that offers no TLS is told from one that is away (${kind})`, async (t) => {
    const server = await givenServer(t, { kind });

    await assert.rejects(FleetClient.connect({ servers: [server.url.replace('nats:', 'tls:')] }), /offers no TLS/);
    await server.kill('SIGKILL');
    await assert.rejects(FleetClient.connect({ servers: [server.url] }), /the connection was refused; check/);
  });
}

test('a server that waits for the TLS handshake is served if that is set, and otherwise named', async (t) => {
  const dir = await givenDir(t);
  const { cert, key } = await makeCertificate(dir, 'IP:127.0.0.1');
  const files = `cert_file: "${cert}", key_file: "${key}"`;
  const first = await givenServer(t, {
    kind: 'current',
    config: `tls { ${files}, handshake_first: true }`,
    isSilent: true,
  });
  const plain = await givenServer(t, { kind: 'current', config: `tls { ${files} }` });
  const tls = { caFile: cert };

  await givenClient(t, { servers: [first.url], tls: { ...tls, handshakeFirst: true } });
  await assert.rejects(FleetClient.connect({ servers: [first.url], tls }), /set nats_tls_handshake_first/);
  await assert.rejects(
    FleetClient.connect({ servers: [plain.url], tls: { ...tls, handshakeFirst: true } }),
    /does not begin with a TLS handshake; switch nats_tls_handshake_first \(--tls-handshake-first\) off/,
  );
  const other = await makeCertificate(dir, 'IP:127.0.0.2');
  const misnamed = await givenServer(t, {
    kind: 'current',
    config: `tls { cert_file: "${other.cert}", key_file: "${other.key}", handshake_first: true }`,
    isSilent: true,
  });
  await assert.rejects(
    FleetClient.connect({ servers: [misnamed.url], tls: { caFile: other.cert, handshakeFirst: true } }),
    /for another name: .*127\.0\.0\.1/,
  );
});
