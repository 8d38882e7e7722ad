import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DeployCommand } from '../../../src/domain/command.js';
import { contentDigest } from '../../../src/domain/program.js';
import { RefusedError } from '../../../src/errors.js';
import { parseCommand } from '../../../src/messages/parse.js';
import { bytes, GO_PROGRAM, HOST, onXdp } from './payloads.js';

const DIGEST = 'ab'.repeat(32);

function programWith(fields: Readonly<Record<string, unknown>>) {
  const command = parseCommand('deploy', bytes(onXdp({ ...GO_PROGRAM, ...fields })), HOST) as DeployCommand;
  return command.chains[0]!.programs[0]!;
}

describe('the package of a program', () => {
  it('may be fixed by its digest, in upper or lower case, and then counts as other code', () => {
    const free = programWith({});
    const pinned = programWith({ sha256: DIGEST.toUpperCase() });

    assert.equal(pinned.sha256, DIGEST);
    assert.notEqual(contentDigest(pinned), contentDigest(free));
    assert.equal(contentDigest(programWith({ sha256: '' })), contentDigest(free));
    assert.equal(contentDigest(programWith({ sha256: null })), contentDigest(free));
  });

  it('may come from an object store', () => {
    for (const url of ['nats://', 'nats://TEAM_PACKAGES']) {
      assert.equal(programWith({ ebpf_package_repo_url: url }).repoUrl, url);
    }
  });

  const refused: readonly (readonly [field: string, value: unknown])[] = [
    ['sha256', DIGEST.slice(1)],
    ['sha256', `${DIGEST}0`],
    ['sha256', `g${DIGEST.slice(1)}`],
    ['sha256', 7],
    ['ebpf_package_repo_url', 'nats://user@bucket'],
    ['ebpf_package_repo_url', 'nats://bucket:4222'],
    ['ebpf_package_repo_url', 'nats://a.b'],
  ];
  for (const [field, value] of refused) {
    it(`is refused with ${JSON.stringify(value)} as ${field}`, () => {
      assert.throws(
        () => programWith({ [field]: value }),
        (error) => error instanceof RefusedError && error.faults.some(({ path }) => path?.endsWith(field)),
      );
    });
  }
});
