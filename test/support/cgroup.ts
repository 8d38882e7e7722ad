import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

/** A control group (version 2) for a test. */
export interface TestGroup {
  /** Path below the mount point, as in hooks: `/l3af-test-0123`. */
  readonly path: string;
  /** Path in the file system. A process that writes its id to `cgroup.procs` there enters the group. */
  readonly dir: string;
  /** Fails while processes are in it. */
  close(): void;
}

/** @param name path whose parent may exist already; default: a free name */
export function makeGroup(name = `l3af-test-${randomBytes(4).toString('hex')}`): TestGroup {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const mount = mounts.map((line) => line.split(' ')).find(([, , type]) => type === 'cgroup2')?.[1];
  if (mount === undefined)
    throw new Error('No cgroup file system of version 2 is mounted: mount -t cgroup2 none <folder>');
  const dir = join(mount, name);
  mkdirSync(dir);
  return {
    path: `/${name}`,
    dir,
    close: () => rmdirSync(dir),
  };
}
