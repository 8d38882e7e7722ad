import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, readdir, readlink, rmdir, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { lockBpffs, lockStateDir, takeStateDir } from '../../../src/store/lock.js';
import { temporaryDir } from '../../unit/store/samples.js';

const LOCKED = {
  name: 'AgentError',
  code: 'STATE_DIR_LOCKED',
  message: /^Another agent already uses the state directory /,
};

describe('the lock of a state directory', () => {
  it('has one holder at a time, until it is released', async (t) => {
    const dir = await temporaryDir(t);

    const first = await lockStateDir(dir);
    await assert.rejects(lockStateDir(dir), LOCKED);
    await first.release();

    const second = await lockStateDir(dir);
    await second.release();
  });

  it('belongs to the directory, whatever path is used', async (t) => {
    const dir = await temporaryDir(t);
    await mkdir(join(dir, 'state'));
    await symlink(join(dir, 'state'), join(dir, 'alias'));

    const lock = await lockStateDir(join(dir, 'state'));
    t.after(() => lock.release());

    await assert.rejects(lockStateDir(join(dir, 'alias')), LOCKED);
  });

  it('does not concern other directories', async (t) => {
    const locks = await Promise.all([lockStateDir(await temporaryDir(t)), lockStateDir(await temporaryDir(t))]);
    for (const lock of locks) await lock.release();
  });

  it('ends with its process, even if the process is killed and its children keep running', async (t) => {
    const dir = await temporaryDir(t);
    const holder = spawn(process.execPath, [join(import.meta.dirname, 'lock-holder.js'), dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => holder.kill('SIGKILL'));
    const [heir] = await once(holder.stdout, 'data');
    t.after(() => process.kill(Number(String(heir))));
    await assert.rejects(lockStateDir(dir), LOCKED);

    holder.kill('SIGKILL');
    await once(holder, 'exit');

    const lock = await lockStateDir(dir);
    await lock.release();
  });

  it('does not keep its process running', { timeout: 30_000 }, async (t) => {
    const dir = await temporaryDir(t);
    const module = new URL('../../../src/store/lock.js', import.meta.url).href;
    const program = `import { lockStateDir } from '${module}'; await lockStateDir('${dir}'); console.log('locked');`;

    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program]);

    assert.equal(stdout, 'locked\n');
  });

  it('is on a file that no other user can open', async (t) => {
    const dir = await temporaryDir(t);
    const lock = await lockStateDir(dir);
    t.after(() => lock.release());

    const { uid, mode } = await stat(join(dir, 'lock'));
    assert.deepEqual([uid, mode & 0o777], [process.geteuid?.(), 0o600]);
  });

  it('names the process that has it', async (t) => {
    const dir = await temporaryDir(t);
    const lock = await lockStateDir(dir);
    t.after(() => lock.release());

    await assert.rejects(lockStateDir(dir), { message: new RegExp(`, process ${process.pid}; stop it`) });
  });
});

describe('a state directory or bpffs', () => {
  for (const [what, spoil, words] of [
    ['that another user owns', (dir: string) => chown(dir, 65534, 65534), /belongs to the user with the id 65534/],
    ['that all others may write to', (dir: string) => chmod(dir, 0o777), /Other users may write to .*chmod go-w/],
    ['that its group may write to', (dir: string) => chmod(dir, 0o770), /Other users may write to .*chmod go-w/],
    ['to which a link of another user leads', spoilLinked, /belongs to the user with the id 65534/],
  ] as const) {
    it(`is refused ${what}, and nothing is written there`, async (t) => {
      const dir = join(await temporaryDir(t), 'state');
      await mkdir(dir);
      await spoil(dir);

      await assert.rejects(takeStateDir(dir), { code: 'CONFIG_INVALID', message: words });
      await assert.rejects(lockBpffs(dir), { code: 'CONFIG_INVALID', message: words });
      assert.deepEqual(await readdir(dir), []);
    });
  }

  it('is locked without a file in it that is open, if it is a bpffs', async (t) => {
    const dir = await temporaryDir(t);
    const lock = await lockBpffs(dir);

    await assert.rejects(lockBpffs(dir), { code: 'STATE_DIR_LOCKED', message: /already uses the bpffs / });
    const open = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
    assert.ok(!(await Promise.all(open)).some((path) => path.startsWith(dir)));

    await lock.release();
    await (await lockBpffs(dir)).release();
  });

  it('that the agent makes is its own', async (t) => {
    const dir = join(await temporaryDir(t), 'a', 'state');
    const lock = await takeStateDir(dir);
    await lock.release();

    assert.equal((await stat(dir)).mode & 0o777, 0o700);
  });
});

/** Makes the directory a link to one that somebody else has. */
async function spoilLinked(dir: string): Promise<void> {
  await mkdir(`${dir}-theirs`);
  await chown(`${dir}-theirs`, 65534, 65534);
  await rmdir(dir);
  await symlink(`${dir}-theirs`, dir);
}
