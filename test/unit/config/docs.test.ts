import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { loadConfig, SETTINGS, type Setting } from '../../../src/config.js';
import { PROJECT_ROOT } from '../../support/project.js';

describe('what operators read', () => {
  const deploy = join(PROJECT_ROOT, 'deploy');
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'l3af-config-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('lists every setting in deploy/README.md', () => {
    const readme = readFileSync(join(deploy, 'README.md'), 'utf8');
    const table = /(?<=<!-- settings -->\n).*?(?=<!-- \/settings -->)/s.exec(readme)?.[0];

    assert.equal(table, settingsTable(), 'put the expected text between the settings marks of deploy/README.md');
  });

  it('shows every setting of the file in deploy/agent.example.yaml', () => {
    const example = readFileSync(join(deploy, 'agent.example.yaml'), 'utf8');

    assert.equal(example, exampleFile(), 'make deploy/agent.example.yaml the expected text');
  });

  it('gives examples that are accepted', () => {
    // The example with all its settings, and one way to authenticate of those that exclude each other.
    const others = ['nats_nkey', 'nats_user_file', 'nats_password_file', 'nats_token_file'];
    const example = readFileSync(join(deploy, 'agent.example.yaml'), 'utf8');
    const config = join(directory, 'agent.yaml');
    const all = example.replaceAll(/^#(?=\w+:)/gm, '');
    writeFileSync(config, all.replaceAll(new RegExp(`^(${others.join('|')}):.*\n`, 'gm'), ''));

    const { origins } = loadConfig({ flags: { config } });

    const fromFile = [...origins].filter(([, origin]) => origin.source === 'file').map(([name]) => name);
    const expected = SETTINGS.filter(({ inFile, name }) => inFile && !others.includes(name)).map(({ name }) => name);
    assert.deepEqual(fromFile, expected);
  });
});

function settingsTable(): string {
  const rows = SETTINGS.map((setting) => {
    const key = setting.inFile ? `\`${setting.name}\`` : '';
    const names = `${key} | \`${setting.env}\` | \`${setting.flag} <${setting.placeholder}>\``;
    return `| ${names} | ${shownDefault(setting)} | ${setting.description} |`;
  });
  return ['', '| file | environment | flag | default | what |', '|---|---|---|---|---|', ...rows, '', ''].join('\n');
}

function shownDefault(setting: Setting): string {
  return setting.default === undefined ? (setting.absent ?? '') : `\`${setting.default}\``;
}

function exampleFile(): string {
  const head = [
    '# Configuration of the L3AF fleet agent: l3af-agent run --config <this file>',
    '# The environment overrides this file, and flags override the environment. A setting in a comment shows the default,',
    '# or an example if there is no constant default.',
  ];
  const entries = SETTINGS.filter((setting) => setting.inFile).flatMap((setting) => {
    const otherwise = setting.default === undefined ? ` (default: ${setting.absent})` : '';
    return ['', `# ${setting.description}${otherwise}`, `#${setting.name}: ${setting.default ?? setting.example}`];
  });
  return `${[...head, ...entries].join('\n')}\n`;
}
