import assert from 'node:assert/strict';
import { mkdtemp, readdir, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { detectFeatures, type Feature } from '../../../../src/datapath/libbpf/diagnostics/features.js';
import { ensureBpffs, isBpffs } from '../../../../src/datapath/libbpf/pins/bpffs.js';
import { command } from '../../../contract/kernel.js';
import { run } from '../../../support/tool.js';

const LIBBPF = join(import.meta.dirname, '../../../../src/datapath/libbpf');

/** Evaluates an expression over a module of the datapath, in a process without any capability. */
async function withoutPrivileges(module: string, expression: string): Promise<string> {
  const script = `const it = await import('${pathToFileURL(join(LIBBPF, module))}'); console.log(${expression});`;
  const drop = ['--bounding-set', '-all', '--inh-caps', '-all', '--no-new-privs'];
  const { stdout } = await run('setpriv', [...drop, process.execPath, '--input-type=module', '--eval', script]);
  return stdout;
}

async function probeInterfaces(): Promise<string[]> {
  return (await command('ip', '-o', 'link', 'show')).match(/l3chk[0-9a-f]{6}p?/g) ?? [];
}

function answers(probes: readonly Feature[]): Record<string, boolean> {
  return Object.fromEntries(probes.map(({ name, ok }) => [name, ok]));
}

describe('the check of kernel features', () => {
  test('finds what the other tests here rely on, and leaves no interface', async () => {
    const probes = await detectFeatures({ bpffs: '/nonexistent' });

    const { libbpf, bpffs, ...found } = answers(probes);
    for (const name of ['CAP_BPF', 'CAP_NET_ADMIN', 'BPF system call', 'XDP link', 'TCX link', 'clsact filter']) {
      assert.equal(found[name], true, name);
    }
    assert.deepEqual([libbpf, bpffs], [true, false]);
    // Agents of other tests run this check too, and remove their interfaces: none that exists now may stay.
    const patience = AbortSignal.timeout(10_000);
    let left = await probeInterfaces();
    for (const seen = left; left.length > 0 && !patience.aborted; await sleep(50)) {
      left = (await probeInterfaces()).filter((name) => seen.includes(name));
    }
    assert.deepEqual(left, []);
  });

  test('gives a reason for every "no"', async () => {
    const probes = JSON.parse(
      await withoutPrivileges(
        'diagnostics/features.js',
        `JSON.stringify(await it.detectFeatures({ bpffs: '/nonexistent' }))`,
      ),
    ) as Feature[];

    const refused = probes.filter(({ ok }) => !ok);
    for (const { name, reason } of refused) assert.match(reason, /[a-z]{2,} [a-z]{2,}/, name);
    const names = new Set(refused.map(({ name }) => name));
    for (const name of [
      'CAP_BPF',
      'CAP_SYS_ADMIN',
      'BPF system call',
      'bpffs',
      'XDP link',
      'raw tracepoint',
      'uprobe',
    ]) {
      assert.ok(names.has(name), name);
    }
  });
});

describe('bpffs', () => {
  test('is mounted if there is none, and only once', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'l3af-mount-'));
    const path = join(folder, 'bpffs');
    assert.equal(isBpffs(path), false);

    ensureBpffs(path);
    assert.equal(isBpffs(path), true);
    ensureBpffs(path);
    ensureBpffs(join(path, 'within'));

    const mounts = (await command('cat', '/proc/self/mounts')).split('\n').filter((line) => line.includes(folder));
    assert.equal(mounts.length, 1);
    assert.ok((await readdir(path)).includes('within'));
    await command('umount', path);
    await rmdir(path);
    await rmdir(folder);
  });

  test('without the privilege to mount it is refused with the remedy', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'l3af-mount-'));
    const attempt = `(() => { try { it.ensureBpffs('${folder}'); } catch ({ code, message }) { return code + ' ' + message; } })()`;

    const said = await withoutPrivileges('pins/bpffs.js', attempt);

    assert.match(said, /^NO_PRIVILEGE There is no bpffs at .* mount -t bpf -o mode=0700 bpf .*EPERM/);
    await rmdir(folder);
  });
});
