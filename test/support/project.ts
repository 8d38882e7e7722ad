import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder with package.json, wherever the compiled tests are below it. */
export const PROJECT_ROOT = (() => {
  let dir = import.meta.dirname;
  while (!existsSync(join(dir, 'package.json')) || dir.includes('node_modules')) dir = dirname(dir);
  return dir;
})();

/** The two programs, as they are shipped. */
export const AGENT = join(PROJECT_ROOT, 'dist', 'bin', 'l3af-agent.js');
export const L3AFCTL = join(PROJECT_ROOT, 'dist', 'bin', 'l3afctl.js');

/** A compiled eBPF object of this repository. */
export function builtObject(name: string): string {
  return join(PROJECT_ROOT, 'native', 'build', `${name}.bpf.o`);
}
