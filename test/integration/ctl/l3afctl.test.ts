import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { connect, headers, type NatsConnection } from 'nats';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import { HEADERS, STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { startNats, type TestServer } from '../../support/nats.js';
import { L3AFCTL } from '../../support/project.js';

const subjects = subjectsFor('l3af', 'web1');

describe('l3afctl', () => {
  let server: TestServer;
  let nc: NatsConnection;
  let dir: string;
  let payload: string;
  /** How the agent of this test answers the next command. */
  let verdict: Partial<Acknowledgement>;
  /** How it answers each request for a plan. If undefined, the answer has only headers. */
  let refusal: object | undefined;

  async function l3afctl(args: readonly string[], input = '') {
    const child = spawn(process.execPath, [L3AFCTL, ...args], { env: { PATH: '', L3AF_NATS_URL: server.url } });
    child.stdin.end(input);
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const [out, error, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    return { out, error, code };
  }

  before(async () => {
    server = await startNats();
    nc = await connect({ servers: server.url });
    const jsm = await nc.jetstreamManager();
    await jsm.streams.add({ name: STREAMS.commands, subjects: [subjects.commandsAll] });
    await jsm.streams.add({ name: STREAMS.acks, subjects: [subjects.acksAll] });
    dir = await mkdtemp(join(tmpdir(), 'l3afctl-'));
    payload = join(dir, 'payload.json');
    await writeFile(payload, JSON.stringify([{ host_name: 'web1', iface: 'eth1' }]));
    runAgent();
  });

  after(async () => {
    await nc.close();
    await server.stop();
    await rm(dir, { recursive: true });
  });

  /** Answers commands with the verdict, and answers status requests. */
  function runAgent(): void {
    nc.subscribe(subjects.commandFilter, {
      callback: async (_error, message) => {
        const id = message.headers?.get('Nats-Msg-Id') ?? '';
        const verb = message.subject.split('.').at(-1) ?? '';
        const now = new Date().toISOString();
        const times = { received_at: now, finished_at: now, duration_ms: 12.3 };
        const told = headers();
        told.set(HEADERS.commandId, id);
        const ack = {
          id,
          host: 'web1',
          verb,
          seq: 1,
          status: 'applied',
          errors: [],
          programs: [],
          ...times,
          ...verdict,
        };
        await nc.jetstream().publish(subjects.ack, JSON.stringify(ack), { headers: told });
      },
    });
    const status = { version: '0.1.0', instance_id: 'i', started_at: new Date().toISOString(), ready: true };
    nc.subscribe(subjects.request('plan'), {
      callback: (_error, message) => {
        const told = headers();
        told.set('Nats-Service-Error-Code', '500');
        told.set('Nats-Service-Error', 'no, and why');
        message.respond(refusal === undefined ? '' : JSON.stringify(refusal), { headers: told });
      },
    });
    nc.subscribe(subjects.requestAll('status'), {
      callback: (_error, message) =>
        message.respond(JSON.stringify({ ...status, host: 'web1', datapath: 'memory', queued: 0, hooks: [] })),
    });
  }

  it('deploys and shows the result for each program', async () => {
    const program = { iface: 'eth1', direction: 'xdpingress', name: 'ratelimiting', version: '1.0' } as const;
    verdict = { status: 'applied', programs: [{ ...program, prog_id: 4711, result: 'started' }] };
    const { out, error, code } = await l3afctl(['deploy', '-f', payload, '--wait', '--id', 'cmd-1']);

    assert.equal(error, '');
    assert.deepEqual(out.split('\n'), [
      '✔ deploy cmd-1 on web1: applied in 12 ms',
      '  IFACE  DIRECTION   PROGRAM       VERSION  RESULT   PROG ID  MESSAGE',
      '  eth1   xdpingress  ratelimiting  1.0      started     4711',
      '',
    ]);
    assert.equal(code, 0);
  });

  it("exits with 1 for a failed command, and shows the verifier's lines", async () => {
    verdict = {
      status: 'failed',
      code: 'VERIFIER_REJECTED',
      message: 'The verifier rejected ratelimiting',
      errors: [
        {
          path: '0.bpf_programs.xdp_ingress.0',
          code: 'VERIFIER_REJECTED',
          message: 'The verifier rejected ratelimiting',
          detail: '0: (b7) r0 = 1\ninvalid access to packet',
        },
      ],
      undone: true,
    };
    const { out, code } = await l3afctl(['add', '-f', payload, '--wait', '--id', 'cmd-2']);

    assert.deepEqual(out.split('\n'), [
      '✖ add cmd-2 on web1: failed in 12 ms',
      '  VERIFIER_REJECTED: The verifier rejected ratelimiting',
      '  0.bpf_programs.xdp_ingress.0',
      '      0: (b7) r0 = 1',
      '      invalid access to packet',
      '  The host is as it was before the command.',
      '',
    ]);
    assert.equal(code, 1);
  });

  it('takes the payload from standard input and answers scripts in JSON', async () => {
    verdict = { status: 'unchanged' };
    const { out, code } = await l3afctl(['delete', '-f', '-', '--host', 'web1', '--wait', '-o', 'json'], '[]');

    const answer = JSON.parse(out) as Acknowledgement;
    assert.deepEqual([answer.verb, answer.status, code], ['delete', 'unchanged', 0]);
  });

  it('does not wait unless told to', async () => {
    verdict = {};
    const { out, code } = await l3afctl(['deploy', '-f', payload, '--id', 'cmd-3']);

    assert.match(out, /^deploy cmd-3 for web1 is stored, sequence \d+\n$/);
    assert.equal(code, 0);
    const again = await l3afctl(['deploy', '-f', payload, '--id', 'cmd-3']);
    assert.match(again.out, /was already stored/);
  });

  it('exits with 3 when no answer comes in time', async () => {
    const { error, code } = await l3afctl(
      ['deploy', '-f', '-', '--host', 'away', '--wait', '--timeout', '200ms'],
      '[]',
    );

    assert.match(error, /^l3afctl deploy: away has not answered command .* within 0\.2 s; the command is stored.*\n$/);
    assert.equal(code, 3);
  });

  it('exits with 4 when NATS cannot be reached', async () => {
    const { error, code } = await l3afctl(['status', '-s', 'nats://127.0.0.1:1']);

    assert.match(error, /^l3afctl status: Cannot connect to NATS at nats:\/\/127\.0\.0\.1:1: .*\n$/);
    assert.equal(code, 4);
  });

  it('lists the agents that answer', async () => {
    const { out, code } = await l3afctl(['status', '--timeout', '500ms']);

    assert.match(out, /^HOST +VERSION +STATE +RUNNING .*\nweb1 +0\.1\.0 +ready +0\/0 +0 +- +-\n$/);
    assert.equal(code, 0);
  });

  it('exits with 3 when the requested host does not answer', async () => {
    const { error, code } = await l3afctl(['programs', '--host', 'away']);

    assert.match(error, /No agent answers for away/);
    assert.equal(code, 3);
  });

  it('exits with 2 for an invalid host name', async () => {
    const { error, code } = await l3afctl(['status', '--host', 'web*']);

    assert.match(error, /^l3afctl status: .*host name.*\nSee l3afctl status --help\n$/);
    assert.equal(code, 2);
  });

  it('lists acknowledgements', async () => {
    const { out, code } = await l3afctl(['acks', '--host', 'web1', '--limit', '2']);

    assert.equal(out.trimEnd().split('\n').length, 3);
    assert.equal(code, 0);
  });

  it('says that a host has no acknowledgements', async () => {
    const { out, error, code } = await l3afctl(['acks', '--host', 'nobody']);

    assert.match(out, /^There are no acknowledgements of nobody: .*\n$/);
    assert.deepEqual([error, code], ['', 0]);
    assert.equal((await l3afctl(['acks', '--host', 'nobody', '-o', 'json'])).out, '[]\n');
  });

  it('names the right verb when a plan is refused because its payload is for another one', async () => {
    refusal = { code: 'INVALID_FIELD', message: 'Expected this, got that' };
    const payloadOf = (entry: unknown) =>
      JSON.stringify([{ host_name: 'web1', iface: 'eth1', bpf_programs: { xdp_ingress: [entry], probes: null } }]);
    const plan = (entry: unknown, ...words: string[]) => l3afctl(['plan', '-f', '-', ...words], payloadOf(entry));

    assert.match((await plan('ratelimiting')).error, /lists names, as for a delete: use --verb delete\n$/);
    assert.match((await plan({}, '--verb', 'delete')).error, /lists programs, but a delete takes their names\n$/);
    assert.equal((await plan({})).error, '');
    assert.equal((await plan('ratelimiting', '--verb', 'delete')).error, '');
  });

  it('shows the same for a refused plan as for the refused command, and exits with 1', async () => {
    const message = 'load broken 1.0 for eth1/xdpingress: The verifier refused broken';
    const fault = { path: '0.bpf_programs.xdp_ingress.0', code: 'VERIFIER_REJECTED', message, detail: 'R2 offset' };
    refusal = { code: fault.code, message, errors: [fault] };
    const { out, error, code } = await l3afctl(['plan', '-f', payload]);

    assert.deepEqual(out.split('\n'), [
      '✖ deploy would fail on web1',
      `  VERIFIER_REJECTED: ${message}`,
      '  0.bpf_programs.xdp_ingress.0',
      '      R2 offset',
      '',
    ]);
    assert.deepEqual([error, code], ['', 1]);
    const json = JSON.parse((await l3afctl(['plan', '-f', payload, '-o', 'json'])).out);
    assert.deepEqual(json, { host: 'web1', verb: 'deploy', ...refusal });
  });

  it('shows a refusal that has only a header', async () => {
    refusal = undefined;
    const { out, code } = await l3afctl(['plan', '-f', payload]);

    assert.equal(out, '✖ deploy would fail on web1\n  INTERNAL: no, and why\n');
    assert.equal(code, 1);
  });
});
