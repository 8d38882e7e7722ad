import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { loadConfig } from '../../../src/config.js';
import { configuredRoots, PROJECT_ROOT, rootPackages } from '../../../src/daemon/roots.js';
import { ROOT_NAMES } from '../../../src/domain/pins.js';
import { AgentError } from '../../../src/errors.js';

const REPOSITORY = { L3AF_REPO_URL: 'file:///srv/packages' };
const rootsOf = (env: Record<string, string>) => configuredRoots(loadConfig({ env }).config);

function refusal(env: Record<string, string>): string {
  try {
    loadConfig({ env });
  } catch (error) {
    assert.ok(error instanceof AgentError && error.code === 'CONFIG_INVALID');
    return error.message;
  }
  assert.fail('the configuration was accepted');
}

describe('the root programs', () => {
  it('are built in by default', () => {
    const roots = rootsOf({});

    for (const { name, object } of Object.values(roots)) {
      assert.ok(ROOT_NAMES.includes(name), name);
      assert.ok(object.kind === 'builtin' && existsSync(object.objectPath), JSON.stringify(object));
      assert.ok(object.objectPath.startsWith(join(PROJECT_ROOT, 'native')));
    }
    assert.deepEqual(rootPackages(roots), []);
  });

  it("come from l3afd's packages when only their artifacts are named", () => {
    const env = { ...REPOSITORY, L3AF_TC_ROOT_ARTIFACT: 'l3af_tc_root.tar.gz' };

    const { xdpingress, ingress, egress } = rootsOf(env);

    const tcRoot = { name: 'tc-root', version: 'latest', artifact: 'l3af_tc_root.tar.gz', repoUrl: '' };
    assert.deepEqual(ingress.object, { kind: 'package', package: tcRoot, objectFile: 'tc_root_ingress.bpf.o' });
    assert.deepEqual([ingress.entryFunction, ingress.slotMap], ['tc_ingress_root', 'tc_ingress_root_array']);
    assert.deepEqual(egress.object, { kind: 'package', package: tcRoot, objectFile: 'tc_root_egress.bpf.o' });
    assert.deepEqual([egress.entryFunction, egress.slotMap], ['tc_egress_root', 'tc_egress_root_array']);
    assert.equal(xdpingress.object.kind, 'builtin');
  });

  it('are other code if any of their settings differs, and keep the same name', () => {
    const env = { ...REPOSITORY, L3AF_XDP_ROOT_ARTIFACT: 'a.tar.gz' };
    const others = [
      { L3AF_XDP_ROOT_ARTIFACT: 'b.tar.gz' },
      { L3AF_XDP_ROOT_PACKAGE_NAME: 'other' },
      { L3AF_XDP_ROOT_VERSION: '2.0' },
      { L3AF_XDP_ROOT_OBJECT_FILE: 'other.o' },
      { L3AF_XDP_ROOT_ENTRY_FUNCTION_NAME: 'other' },
      { L3AF_XDP_ROOT_INGRESS_MAP_NAME: 'other' },
    ];

    const roots = [{}, ...others].map((other) => rootsOf({ ...env, ...other }).xdpingress);

    assert.equal(new Set(roots.map(({ digest }) => digest)).size, roots.length);
    assert.deepEqual([...new Set(roots.map(({ name }) => name))], ['xdp-root']);
  });

  it('must be configured completely', () => {
    assert.match(refusal({ L3AF_XDP_ROOT_VERSION: '1.0' }), /xdp_root_version is set but xdp_root_artifact is not/);
    assert.match(refusal({ L3AF_TC_ROOT_ARTIFACT: 'a.tar.gz' }), /tc_root_artifact is set but repo_url is not/);
  });

  it('have names that can be paths and symbols', () => {
    const env = { ...REPOSITORY, L3AF_XDP_ROOT_ARTIFACT: 'a.tar.gz' };
    for (const [setting, value] of [
      ['ARTIFACT', '../a.tar.gz'],
      ['ARTIFACT', 'a.exe'],
      ['PACKAGE_NAME', 'a/b'],
      ['VERSION', '1..2'],
      ['OBJECT_FILE', '/etc/passwd'],
      ['ENTRY_FUNCTION_NAME', 'a-b'],
      ['INGRESS_MAP_NAME', '.maps'],
    ] as const) {
      const name = `xdp_root_${setting.toLowerCase()}`;
      assert.match(refusal({ ...env, [`L3AF_XDP_ROOT_${setting}`]: value }), new RegExp(`Expected ${name} to be`));
    }
  });
});
