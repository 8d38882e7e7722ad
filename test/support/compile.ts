import { machine } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from './project.js';
import { run } from './tool.js';

/**
 * Compiles an eBPF program of test/native, as packages are compiled.
 *
 * @param source name of the file without its endings
 * @param options of clang, beside the usual ones
 */
export async function compileObject(source: string, path: string, ...options: string[]): Promise<void> {
  const file = join(PROJECT_ROOT, 'test', 'native', `${source}.bpf.c`);
  const usual = ['-target', 'bpf', '-mcpu=v3', '-O2', '-g', '-idirafter', `/usr/include/${machine()}-linux-gnu`];
  await run('clang', [...usual, ...options, '-c', file, '-o', path]);
}
