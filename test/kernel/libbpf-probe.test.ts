import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { ensureBpffs, isBpffs } from '../../src/datapath/libbpf/bpffs.js';
import { type Probe, probeKernel } from '../../src/datapath/libbpf/probe.js';
import { command } from '../contract/kernel.js';

const run = promisify(execFile);
const LIBBPF = join(import.meta.dirname, '../../src/datapath/libbpf');

/** Runs an expression over a module of the datapath in a process without any capability. */
async function withoutPrivileges(module: string, expression: string): Promise<string> {
  const script = `const it = await import('${pathToFileURL(join(LIBBPF, module))}'); console.log(${expression});`;
  const drop = ['--bounding-set', '-all', '--inh-caps', '-all', '--no-new-privs'];
  const { stdout } = await run('setpriv', [...drop, process.execPath, '--input-type=module', '--eval', script]);
  return stdout;
}

async function probeInterfaces(): Promise<string[]> {
  return (await command('ip', '-o', 'link', 'show')).match(/l3chk[0-9a-f]{6}p?/g) ?? [];
}

function answers(probes: readonly Probe[]): Record<string, boolean> {
  return Object.fromEntries(probes.map(({ name, ok }) => [name, ok]));
}

describe('the probe of the kernel', () => {
  test('finds what the other tests here rely on, and leaves no interface', async () => {
    const probes = await probeKernel({ bpffs: '/nonexistent' });

    const { libbpf, bpffs, ...found } = answers(probes);
    for (const name of ['CAP_BPF', 'CAP_NET_ADMIN', 'BPF system call', 'XDP link', 'TCX link', 'clsact filter']) {
      assert.equal(found[name], true, name);
    }
    assert.deepEqual([libbpf, bpffs], [true, false]);
    // Agents of other tests probe too, and take theirs away: none that is there now may stay.
    const patience = AbortSignal.timeout(10_000);
    let left = await probeInterfaces();
    for (const seen = left; left.length > 0 && !patience.aborted; await sleep(50)) {
      left = (await probeInterfaces()).filter((name) => seen.includes(name));
    }
    assert.deepEqual(left, []);
  });

  test('says why wherever it says no', async () => {
    const probes = JSON.parse(
      await withoutPrivileges('probe.js', `JSON.stringify(await it.probeKernel({ bpffs: '/nonexistent' }))`),
    ) as Probe[];

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
  test('is mounted where there is none, and once', async () => {
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

  test('that may not be mounted is refused with the remedy', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'l3af-mount-'));
    const attempt = `(() => { try { it.ensureBpffs('${folder}'); } catch ({ code, message }) { return code + ' ' + message; } })()`;

    const said = await withoutPrivileges('bpffs.js', attempt);

    assert.match(said, /^NO_PRIVILEGE There is no bpffs at .* mount -t bpf bpf .*EPERM/);
    await rmdir(folder);
  });
});
