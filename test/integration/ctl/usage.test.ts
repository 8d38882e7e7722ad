import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { VERBS } from '../../../src/domain/command.js';
import { L3AFCTL } from '../../support/project.js';

/* The command line of l3afctl, and its messages for wrong usage. None of these calls reaches a server. */

interface Ran {
  readonly out: string;
  readonly error: string;
  readonly code: number | null;
}

/** Earlier output: the same arguments give the same output. */
const ran = new Map<string, Promise<Ran>>();

function l3afctl(args: readonly string[], input = ''): Promise<Ran> {
  const key = JSON.stringify([args, input]);
  if (!ran.has(key)) ran.set(key, run(args, input));
  return ran.get(key)!;
}

async function run(args: readonly string[], input = '', env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const child = spawn(process.execPath, [L3AFCTL, ...args], { env: { PATH: '', ...env } });
  child.stdin.end(input);
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [out, error, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  return { out, error, code };
}

describe('l3afctl', () => {
  for (const [what, args, input, words] of [
    ['no command', [], '', /Usage: l3afctl/],
    ['an unknown command', ['frob'], '', /unknown command 'frob'/],
    ['no payload', ['deploy'], '', /--file/],
    ['a payload that does not exist', ['deploy', '-f', 'nonexistent.json'], '', /Cannot read nonexistent\.json/],
    ['a payload that is not JSON', ['deploy', '-f', '-'], '{', /Expected JSON in standard input/],
    ['a payload without host', ['deploy', '-f', '-'], '[]', /--host/],
    ['a payload for two hosts', ['deploy', '-f', '-'], '[{"host_name":"a"},{"host_name":"b"}]', /got a, b/],
    ['an invalid duration', ['status', '--timeout', 'soon'], '', /duration/],
    ['counting for too long', ['show', '--stats', '61s'], '', /1ms to 60s/],
    ['an invalid output format', ['status', '-o', 'xml'], '', /table, json/],
    ['acknowledgements without a host', ['acks'], '', /--host/],
    [
      'a server of another kind',
      ['status', '-s', 'http://a:b@web'],
      '',
      /nats:.*tls:.*<host>:<port>, got http:\/\/web\n/,
    ],
    ['a WebSocket', ['status', '-s', 'wss://web'], '', /got wss:\/\/web\n/],
    ['a server without a name', ['status', '-s', 'nats://:4222'], '', /got nats:\/\/:4222\n/],
    ['an unknown package command', ['package', 'frob'], '', /unknown command 'frob'/],
    ['a missing key', ['package', 'sign', 'x', '--repo', '/'], '', /--key/],
  ] as const) {
    it(`exits with 2 for ${what}`, async () => {
      const { out, error, code } = await l3afctl(args, input);

      assert.match(error, words);
      assert.doesNotMatch(error, /\n\s+at /);
      assert.equal(out, '');
      assert.equal(code, 2);
    });
  }

  for (const [args, called] of [
    [['frob'], 'l3afctl'],
    // Options of every command are in the help of the program itself.
    [['status', '-o', 'xml'], 'l3afctl'],
    [['deploy'], 'l3afctl deploy'],
    [['deploy', '-f', 'nonexistent.json'], 'l3afctl deploy'],
    [['status', '-s', 'http://web'], 'l3afctl status'],
    [['package', 'frob'], 'l3afctl package'],
    [['package', 'sign', 'x', '--repo', '/'], 'l3afctl package sign'],
  ] as const) {
    it(`says what is wrong and where to look for ${args.join(' ')}`, async () => {
      const { error } = await l3afctl(args);

      assert.match(error, new RegExp(`^${called}: .+\\n(\\(Did .+\\n)?See ${called} --help\\n$`));
    });
  }

  it('shows in the help which options are required', async () => {
    const { out: deploy } = await l3afctl(['deploy', '--help']);
    const { out: sign } = await l3afctl(['package', 'sign', '--help']);

    assert.match(deploy, /^Usage: l3afctl deploy --file <payload> \[options\]\n/);
    assert.match(deploy, /--file <payload> .*\(required\)\n/);
    assert.match(sign, /^Usage: l3afctl package sign --repo <place> --key <file> \[options\] <package\.\.\.>\n/);
    assert.match(sign, /--key <file> .*\(required\)\n/);
    assert.match(sign, /--repo <place> .*\(required, env: L3AF_REPO_URL\)\n/);
  });

  for (const command of ['', ...VERBS, 'plan', 'status', 'show', 'programs', 'acks', 'package', 'package build']) {
    it(`has a help that fits 80 columns: l3afctl ${command}`, async () => {
      const { out } = await l3afctl([...command.split(' ').filter((word) => word !== ''), '--help']);

      assert.deepEqual(
        out.split('\n').filter(({ length }) => length > 80),
        [],
      );
    });
  }

  it('looks for servers where it is told, in NATS_URL, and where the agent of this host has left its own', async (t) => {
    const stateDir = await mkdtemp(join(tmpdir(), 'l3af-usage-'));
    t.after(() => rm(stateDir, { recursive: true }));
    await mkdir(join(stateDir, 'nats'));
    await writeFile(join(stateDir, 'nats', 'url'), 'nats://l3af:secret@127.0.0.1:3\n');
    const places = [
      { L3AF_NATS_URL: 'nats://127.0.0.1:1', NATS_URL: 'nats://127.0.0.1:2', L3AF_STATE_DIR: stateDir },
      { NATS_URL: 'nats://127.0.0.1:2', L3AF_STATE_DIR: stateDir },
      { L3AF_STATE_DIR: stateDir },
      { L3AF_STATE_DIR: join(stateDir, 'absent') },
    ];
    const tried = await Promise.all(places.map((env) => run(['status'], '', env)));

    const told = tried.map(({ error }) => /Cannot connect to NATS at nats:\/\/127\.0\.0\.1:(\d+):/.exec(error)?.[1]);
    assert.deepEqual(told, ['1', '2', '3', '4222']);
    assert.ok(tried.every(({ error, out }) => !`${error}${out}`.includes('secret')));
  });

  it('exits with 0 for help and version', async () => {
    assert.match((await l3afctl(['--help'])).out, /Exit codes/);
    assert.match((await l3afctl(['deploy', '--help'])).out, /Example/);
    for (const words of [['version'], ['--version'], ['-V'], ['-o', 'json', 'version']])
      assert.match((await l3afctl(words)).out, /^\d+\.\d+\.\d+\n$/);
    assert.equal((await l3afctl(['--help'])).code, 0);
  });
});
