import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Background } from '../../../src/daemon/background.js';
import { createLogger } from '../../../src/telemetry/log.js';

const HOUR_MS = 3_600_000;

test('l3afd defect 18: a watcher ends the daemon after a day', async (t) => {
  // given a task that runs every hour, and that fails each time
  t.mock.timers.enable({ apis: ['setInterval'] });
  const background = new Background(createLogger({ level: 'silent', host: 'web1' }));
  let runs = 0;
  background.every(HOUR_MS, async () => {
    runs++;
    throw new Error('the certificate cannot be read');
  });

  // when three days pass
  for (let hour = 0; hour < 72; hour++) {
    t.mock.timers.tick(HOUR_MS);
    await new Promise(setImmediate);
  }

  // then it has run 72 times, the process still runs, and the task ends when it is told to
  assert.equal(runs, 72);
  background.stop();
  t.mock.timers.tick(HOUR_MS);
  assert.equal(runs, 72);
});
