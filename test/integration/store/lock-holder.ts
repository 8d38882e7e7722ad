import { spawn } from 'node:child_process';
import { lockStateDir } from '../../../src/store/lock.js';

/**
 * A process for lock.test.ts: locks the given directory, starts a child that outlives it, prints the child's process
 * id, and keeps running.
 */
const [dir] = process.argv.slice(2);
if (dir !== undefined) {
  await lockStateDir(dir);
  const heir = spawn('sleep', ['600'], { stdio: 'ignore', detached: true });
  console.log(heir.pid);
  setInterval(() => {}, 60_000);
}
