import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type ConfigInput, describeConfig, loadConfig } from '../../src/config.js';
import { AgentError } from '../../src/errors.js';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'l3af-config-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** A configuration file with this text, as the flag that names it. */
function file(text: string): { config: string } {
  const path = join(directory, 'agent.yaml');
  writeFileSync(path, text);
  return { config: path };
}

/** The sentences with which the input is refused. */
function problemsOf(input: ConfigInput): string[] {
  try {
    loadConfig(input);
  } catch (error) {
    assert.ok(error instanceof AgentError);
    assert.equal(error.code, 'CONFIG_INVALID');
    const [first, ...rest] = error.message.split('\n').map((line) => line.trim());
    return rest.length === 0 ? [first!] : rest;
  }
  assert.fail('the configuration was accepted');
}

function sourceOf(input: ConfigInput, setting: string) {
  return describeConfig(loadConfig(input)).find((described) => described.setting === setting);
}

describe('the sources of a setting', () => {
  it('lets a flag win over the environment, that over the file, that over the default', () => {
    const flags = { prefix: 'from-flag' };
    const env = { L3AF_PREFIX: 'from-env' };
    const inFile = file('prefix: from-file\n');

    assert.equal(loadConfig({}).config.prefix, 'l3af');
    assert.equal(loadConfig({ flags: inFile }).config.prefix, 'from-file');
    assert.equal(loadConfig({ flags: inFile, env }).config.prefix, 'from-env');
    assert.equal(loadConfig({ flags: { ...inFile, ...flags }, env }).config.prefix, 'from-flag');
  });

  it('shows what has no value as such, labels too', () => {
    const shown = (setting: string) => sourceOf({ env: { L3AF_LABELS: '' } }, setting);

    assert.deepEqual(shown('labels'), { setting: 'labels', value: null, source: 'default' });
    assert.deepEqual(shown('nats_url'), { setting: 'nats_url', value: null, source: 'default' });
    assert.equal(sourceOf({ env: { L3AF_LABELS: 'rack=a1' } }, 'labels')?.value, 'rack=a1');
  });

  it('remembers for each value where it came from', () => {
    const input = { flags: { ...file('tc_mode: tcx\n'), xdpMode: 'native' }, env: { L3AF_BPFFS: '/mnt/bpf' } };

    assert.deepEqual(sourceOf(input, 'xdp_mode'), { setting: 'xdp_mode', value: 'native', source: 'flag' });
    assert.deepEqual(sourceOf(input, 'bpffs'), { setting: 'bpffs', value: '/mnt/bpf', source: 'environment' });
    assert.deepEqual(sourceOf(input, 'tc_mode'), { setting: 'tc_mode', value: 'tcx', source: 'file' });
    assert.deepEqual(sourceOf(input, 'log_level'), { setting: 'log_level', value: 'info', source: 'default' });
    assert.deepEqual(sourceOf(input, 'nats_url'), { setting: 'nats_url', value: null, source: 'default' });
  });

  it('finds the file through L3AF_CONFIG too', () => {
    const { config } = file('prefix: from-file\n');
    assert.equal(loadConfig({ env: { L3AF_CONFIG: config } }).config.prefix, 'from-file');
  });

  it('takes an empty value for none, in every source', () => {
    const inFile = file('prefix:\nlog_level: ""\nhost_id: ~\nplatform: null\n');
    const { config } = loadConfig({ flags: { ...inFile, xdpMode: '' }, env: { L3AF_TC_MODE: '' } });

    assert.equal(config.prefix, 'l3af');
    assert.equal(config.logLevel, 'info');
    assert.equal(config.hostId, undefined);
    assert.equal(config.platform, undefined);
    assert.equal(config.xdpMode, 'auto');
    assert.equal(config.tcMode, 'auto');
  });

  it('leaves a number in the file the text that was written', () => {
    assert.equal(loadConfig({ flags: file('host_id: 007\n') }).config.hostId, '007');
  });

  it('accepts an empty file', () => {
    assert.equal(loadConfig({ flags: file('# nothing yet\n') }).config.prefix, 'l3af');
  });
});

describe('the values of settings', () => {
  const accepted: [env: Record<string, string>, property: string, value: unknown][] = [
    [{ L3AF_SNAPSHOT_INTERVAL: '500ms' }, 'snapshotInterval', 500],
    [{ L3AF_SNAPSHOT_INTERVAL: '1.5s' }, 'snapshotInterval', 1_500],
    [{ L3AF_SNAPSHOT_INTERVAL: '5m' }, 'snapshotInterval', 300_000],
    [{ L3AF_SNAPSHOT_INTERVAL: '24h' }, 'snapshotInterval', 86_400_000],
    [{ L3AF_SNAPSHOT_INTERVAL: '30' }, 'snapshotInterval', 30_000],
    [{ L3AF_CHAINING: 'false' }, 'chaining', false],
    [{ L3AF_CHAINING: '1' }, 'chaining', true],
    [{ L3AF_METRICS_ADDR: '[::1]:9000' }, 'metricsAddr', { host: '::1', port: 9000 }],
    [{ L3AF_METRICS_ADDR: 'localhost:0' }, 'metricsAddr', { host: 'localhost', port: 0 }],
    [{ L3AF_METRICS_ADDR: 'off' }, 'metricsAddr', 'off'],
    [{ L3AF_NATS_URL: 'nats://a:4222, tls://b' }, 'natsUrl', ['nats://a:4222', 'tls://b']],
    [{ L3AF_STATE_DIR: '/var/lib/x/' }, 'stateDir', '/var/lib/x'],
    [{ L3AF_REPO_URL: 'file:///srv/packages' }, 'repoUrl', 'file:///srv/packages'],
    [{ L3AF_JS_API_PREFIX: '$JS.hub.API' }, 'jsApiPrefix', '$JS.hub.API'],
    [{ L3AF_HOST_ID: 'web1_dc1' }, 'hostId', 'web1_dc1'],
  ];
  for (const [env, property, value] of accepted) {
    it(`reads ${Object.entries(env).flat().join('=')}`, () => {
      assert.deepEqual((loadConfig({ env }).config as Record<string, unknown>)[property], value);
    });
  }

  const refused: [env: Record<string, string>, expected: RegExp][] = [
    [{ L3AF_SNAPSHOT_INTERVAL: 'soon' }, /a duration between 100ms and 24h/],
    [{ L3AF_SNAPSHOT_INTERVAL: '99ms' }, /a duration between 100ms and 24h/],
    [{ L3AF_SNAPSHOT_INTERVAL: '25h' }, /a duration between 100ms and 24h/],
    [{ L3AF_SNAPSHOT_INTERVAL: '-5s' }, /a duration between 100ms and 24h/],
    [{ L3AF_CHAINING: 'maybe' }, /true or false/],
    [{ L3AF_XDP_MODE: 'offload' }, /one of auto, native, generic/],
    [{ L3AF_METRICS_ADDR: '::1:9000' }, /an address and a port/],
    [{ L3AF_METRICS_ADDR: '127.0.0.1:65536' }, /an address and a port/],
    [{ L3AF_NATS_URL: 'broker:4222' }, /NATS addresses/],
    [{ L3AF_NATS_URL: 'nats://a,http://b' }, /NATS addresses/],
    [{ L3AF_NATS_URL: 'ws://a' }, /NATS addresses/],
    [{ L3AF_NATS_URL: 'nats://a,' }, /NATS addresses/],
    [{ L3AF_NATS_URL: 'nats://' }, /NATS addresses/],
    [{ L3AF_REPO_URL: 'ftp://packages' }, /http:\/\/, https:\/\/, file:\/\/ or nats:\/\//],
    [{ L3AF_PREFIX: 'l3af.>' }, /tokens joined by dots/],
    [{ L3AF_INBOX_PREFIX: '_INBOX.' }, /without wildcards/],
    [{ L3AF_HOST_ID: 'web1.dc1' }, /lower-case letters, digits/],
    [{ L3AF_HOST_ID: 'all' }, /not "all"/],
    [{ L3AF_HOST_NAME: 'web 1' }, /without blanks/],
    [{ L3AF_PLATFORM: '../etc' }, /letters, digits/],
  ];
  for (const [env, expected] of refused) {
    it(`refuses ${Object.entries(env).flat().join('=')}, naming what was expected, what came and from where`, () => {
      const [[variable, value]] = Object.entries(env) as [[string, string]];
      const [problem, ...more] = problemsOf({ env });

      assert.deepEqual(more, []);
      assert.match(problem!, expected);
      assert.ok(problem!.endsWith(`got ${JSON.stringify(value)} from the environment (${variable}).`), problem);
    });
  }
});

describe('what is refused', () => {
  it('tells everything that is wrong at once', () => {
    const flags = { ...file('nats_ulr: nats://a\nchaining: perhaps\n'), logLevel: 'loud' };
    const problems = problemsOf({ flags, env: { L3AF_PREFX: 'x', L3AF_NATS_CREDS: '/c', L3AF_NATS_NKEY: '/n' } });

    assert.deepEqual(problems, [
      'The environment variable L3AF_PREFX is unknown; did you mean L3AF_PREFIX?',
      `The setting nats_ulr in ${flags.config} is unknown; did you mean nats_url?`,
      `Expected chaining to be true or false; got "perhaps" from the file ${flags.config}.`,
      'Expected log_level to be one of trace, debug, info, warn, error, fatal, silent; got "loud" from the flag --log-level.',
      'nats_creds is set but nats_url is not; the embedded server does not use credentials.',
      'nats_nkey is set but nats_url is not; the embedded server does not use credentials.',
      'nats_creds and nats_nkey are both set; remove one.',
    ]);
  });

  it('tells unknown keys of the file by their path, with the setting that was probably meant', () => {
    const flags = file('nats:\n  url: nats://a\n  pool: 3\nnats-creds: /c\nlogLevel: info\nconfig: /other\n');

    assert.deepEqual(problemsOf({ flags }), [
      `The setting nats.url in ${flags.config} is unknown; did you mean nats_url?`,
      `The setting nats.pool in ${flags.config} is unknown.`,
      `The setting nats-creds in ${flags.config} is unknown; did you mean nats_creds?`,
      `The setting logLevel in ${flags.config} is unknown; did you mean log_level?`,
      `The setting config in ${flags.config} is unknown.`,
    ]);
  });

  it('leaves variables alone that a cluster adds for services', () => {
    const env = { L3AF_NATS_SERVICE_HOST: '10.0.0.1', L3AF_NATS_PORT: 'tcp://10.0.0.1:4222', L3AF_PORT: '1' };
    assert.equal(loadConfig({ env }).config.natsUrl, undefined);
  });

  it('refuses a list where one value belongs', () => {
    const flags = file('nats_url: [nats://a, nats://b]\n');
    assert.deepEqual(problemsOf({ flags }), [
      `Expected nats_url to be one plain value, got a list or mapping from ${flags.config}.`,
    ]);
  });

  it('says why the file cannot be read', () => {
    const absent = join(directory, 'absent.yaml');
    assert.deepEqual(problemsOf({ flags: { config: absent } }), [
      `The configuration file ${absent} cannot be read: no such file or directory.`,
    ]);
    const twice = file('prefix: a\nprefix: b\n');
    assert.deepEqual(problemsOf({ flags: twice }), [
      `The configuration file ${twice.config} cannot be read: Map keys must be unique at line 2, column 1.`,
    ]);
    const list = file('- prefix\n');
    assert.deepEqual(problemsOf({ flags: list }), [
      `The configuration file ${list.config} must be a mapping of settings to values.`,
    ]);
  });

  it('wants certificate and key together', () => {
    const env = { L3AF_NATS_URL: 'tls://a', L3AF_NATS_TLS_CERT: '/cert.pem' };
    assert.deepEqual(problemsOf({ env }), ['nats_tls_cert and nats_tls_key only work together; set both or neither.']);
  });
});

describe('secrets', () => {
  const seed = 'SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM';

  const repositories: [url: string, shown: string][] = [
    ['https://bot:hunter2@packages.example/l3af?key=s3cr3t#x', 'https://bot:***@packages.example/l3af?***'],
    ['https://s3cr3t@packages.example/l3af@2', 'https://***@packages.example/l3af@2'],
    ['https://packages.example/l3af', 'https://packages.example/l3af'],
  ];
  for (const [url, shown] of repositories) {
    it(`shows ${url} as ${shown}`, () => {
      assert.equal(sourceOf({ env: { L3AF_REPO_URL: url } }, 'repo_url')?.value, shown);
    });
  }

  const servers: [url: string, shown: string][] = [
    ['nats://agent:hunter2@a', 'nats://agent:***@a'],
    ['nats://hunter2@a', 'nats://***@a'],
    ['nats://hunter2@a,nats://agent:hunter2@b', 'nats://***@a,nats://agent:***@b'],
    ['agent:hunter2@broker:4222', '***@broker:4222'],
    ['nats://agent:hunt,er2@broker', 'nats://***@broker'],
    ['http://agent:hunter2@broker', 'http://agent:***@broker'],
    ['nats://agent:hunter2/@broker', 'nats://***@broker'],
  ];
  for (const [url, shown] of servers) {
    it(`refuses ${url}, since the client would not use the password, and repeats it as ${shown}`, () => {
      const [problem] = problemsOf({ env: { L3AF_NATS_URL: url } });
      assert.match(problem!, /without user and password/);
      assert.ok(problem!.includes(`got "${shown}"`), problem);
    });
  }

  for (const secret of [seed, '-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n']) {
    it(`refuses what begins with ${secret.slice(0, 2)} where the path of a file belongs, and does not repeat it`, () => {
      for (const variable of ['L3AF_NATS_CREDS', 'L3AF_NATS_NKEY']) {
        const [problem] = problemsOf({ env: { L3AF_NATS_URL: 'nats://a', [variable]: secret } });
        assert.match(problem!, /the path of a file/);
        assert.ok(problem!.includes('got "***"'), problem);
      }
    });
  }
});
