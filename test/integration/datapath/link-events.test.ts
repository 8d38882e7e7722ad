import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { LinkEvents } from '../../../src/datapath/link-events.js';
import { until, untilGiven } from '../../support/until.js';

/* Our own `ip` command, which fails in the ways in which the real one can fail. */

const PAUSE_MS = 5;

describe('link events', () => {
  let dir: string;
  let events: LinkEvents | undefined;
  // Link events do not keep the process alive.
  let alive: NodeJS.Timeout;
  const happened = new EventEmitter();
  const warnings: { fields: Record<string, unknown>; message: string }[] = [];
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'l3af-link-events-'));
    warnings.length = 0;
    alive = setInterval(() => undefined, 1000);
  });
  afterEach(async () => {
    events?.stop();
    clearInterval(alive);
    await rm(dir, { recursive: true });
  });

  /** An `ip` that appends a letter to a file each time it is started, and then runs a script. */
  async function fakeIp(script: string): Promise<string> {
    const path = join(dir, 'ip');
    await writeFile(path, `#!/bin/sh\nprintf x >>${dir}/starts\n${script}\n`);
    await chmod(path, 0o755);
    return path;
  }

  function listen(command: string): void {
    const log = {
      warn: (fields: object, message: string) => {
        warnings.push({ fields: { ...fields }, message });
        happened.emit('warned');
      },
    };
    events = new LinkEvents({ onChange: () => happened.emit('changed'), log, command, firstPauseMs: PAUSE_MS });
    events.start();
  }

  async function warned(times: number): Promise<void> {
    while (warnings.length < times) await once(happened, 'warned');
  }

  it('are retried with growing pauses if `ip` ends at once, and the log says so', async () => {
    listen(await fakeIp('echo "no permission" >&2; exit 2'));
    await warned(4);

    const pauses = warnings.slice(0, 4).map(({ fields }) => fields.pause_ms);
    assert.deepEqual(
      pauses,
      [1, 2, 4, 8].map((factor) => PAUSE_MS * factor),
    );
    const [{ fields, message }] = warnings as [(typeof warnings)[0]];
    assert.deepEqual([fields.code, fields.said], [2, 'no permission']);
    assert.equal(new Set(warnings.map((warning) => warning.message)).size, 1);
    assert.match(message, /interfaces are only checked at intervals/);
  });

  it('are retried if there is no `ip`, and arrive once there is one', async () => {
    listen(join(dir, 'ip'));
    await warned(2);
    assert.equal(warnings[0]!.fields.code, 127);
    assert.match(String(warnings[0]!.fields.said), /No such file/);

    const changed = once(happened, 'changed');
    await fakeIp('echo "7: eth7: <UP>"; exec cat /dev/zero >/dev/null');
    await changed;
  });

  it('start with the first pause again after an event', async () => {
    listen(await fakeIp(`[ "$(wc -c <${dir}/starts)" -ge 3 ] && echo "7: eth7: <UP>"; exit 0`));
    await warned(4);

    assert.deepEqual(
      warnings.slice(0, 4).map(({ fields }) => fields.pause_ms),
      [5, 10, 5, 5],
    );
  });

  it('end when they are stopped, and are not retried', async () => {
    listen(await fakeIp('echo "7: eth7: <UP>"; exec sleep 1000'));
    await once(happened, 'changed');

    events?.stop();
    await once(happened, 'changed', { signal: AbortSignal.timeout(50) }).catch(() => undefined);

    assert.deepEqual(warnings, []);
  });

  it('end when the process is killed', async () => {
    const command = await fakeIp(`echo $$ >${dir}/pid; exec sleep 1000`);
    const module = new URL('../../../src/datapath/link-events.js', import.meta.url).href;
    const options = `{ command: ${JSON.stringify(command)}, onChange() {}, log: console }`;
    const script = `const { LinkEvents } = await import('${module}'); new LinkEvents(${options}).start();`;
    const agent = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'inherit' });
    const pid = await untilGiven('it listens', () => readFile(join(dir, 'pid'), 'utf8').catch(() => undefined));
    assert.ok(existsSync(`/proc/${pid.trim()}`));

    agent.kill('SIGKILL');
    await until('nobody listens', () => !existsSync(`/proc/${pid.trim()}`));
  });
});
