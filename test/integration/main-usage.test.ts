import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, it } from 'node:test';
import { AGENT } from '../support/project.js';

/* The command line of l3af-agent, and its messages for wrong usage. */

function agent(args: readonly string[]): Promise<{ error: string; code: unknown }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [AGENT, ...args], { env: { PATH: '' } }, (failure, _out, error) => {
      resolve({ error, code: failure?.code });
    });
  });
}

describe('l3af-agent', () => {
  for (const [args, words] of [
    [['frob'], /^l3af-agent: unknown command 'frob'\n/],
    [['--frob'], /^l3af-agent: unknown option '--frob'\n/],
    [['run', '--frob'], /^l3af-agent run: unknown option '--frob'\n/],
    [['config', '--nats-url'], /^l3af-agent config: option '--nats-url <url>' argument missing\n/],
  ] as const) {
    it(`names itself when it refuses ${args.join(' ')}`, async () => {
      const { error, code } = await agent(args);

      assert.match(error, words);
      assert.equal(code, 64);
    });
  }
});
