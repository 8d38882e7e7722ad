import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder with package.json, wherever the compiled tests lie below it. */
export const PROJECT_ROOT = (() => {
  let dir = import.meta.dirname;
  while (!existsSync(join(dir, 'package.json')) || dir.includes('node_modules')) dir = dirname(dir);
  return dir;
})();

/** A compiled eBPF object of this repository. */
export function builtObject(name: string): string {
  return join(PROJECT_ROOT, 'native', 'build', `${name}.bpf.o`);
}
