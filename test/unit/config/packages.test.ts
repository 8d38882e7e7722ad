import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { loadConfig } from '../../../src/config.js';

const KEY = 'kLyXEa+I6utvCEMK/lB2UdemNNfXiE3Kl4WfKMN6Pyo=';

describe('the settings of packages', () => {
  it('accept an object store as the repository, with and without a bucket', () => {
    for (const url of ['nats://', 'nats://OTHER_PACKAGES']) {
      assert.equal(loadConfig({ env: { L3AF_REPO_URL: url } }).config.repoUrl, url);
    }
  });

  it('accept trusted keys directly and in files', () => {
    const { config } = loadConfig({ env: { L3AF_TRUSTED_KEYS: `${KEY}, release.pub` } });

    assert.deepEqual(config.trustedKeys, [KEY, resolve('release.pub')]);
  });

  it('refuse a policy that no signature could satisfy', () => {
    for (const policy of ['if-present', 'required']) {
      assert.throws(() => loadConfig({ env: { L3AF_SIGNATURE_POLICY: policy } }), /trusted_keys is not set/);
      const env = { L3AF_SIGNATURE_POLICY: policy, L3AF_TRUSTED_KEYS: KEY };
      assert.equal(loadConfig({ env }).config.signaturePolicy, policy);
    }
  });

  it('refuse an invalid policy and an invalid list of keys', () => {
    assert.throws(() => loadConfig({ env: { L3AF_SIGNATURE_POLICY: 'yes' } }), /off, if-present, required/);
    assert.throws(() => loadConfig({ env: { L3AF_TRUSTED_KEYS: 'a.pub,' } }), /public keys in base64, or paths/);
  });
});
