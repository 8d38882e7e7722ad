import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../support/project.js';

const CODE = /\.(?:ts|c|h|sh)$/;

/** Non-empty lines of code by folder: `native` as a whole, the others by subfolder. */
export async function linesPerFolder(): Promise<Record<string, { files: number; lines: number }>> {
  const table: Record<string, { files: number; lines: number }> = {};
  for (const top of ['src', 'native', 'deploy', 'test']) {
    for (const path of await readdir(join(PROJECT_ROOT, top), { recursive: true })) {
      if (!CODE.test(path)) continue;
      const [folder, file] = path.split('/', 2);
      const key = file === undefined || top === 'native' ? top : `${top}/${folder}`;
      const text = await readFile(join(PROJECT_ROOT, top, path), 'utf8');
      const row = table[key] ?? { files: 0, lines: 0 };
      table[key] = {
        files: row.files + 1,
        lines: row.lines + text.split('\n').filter((line) => line.trim() !== '').length,
      };
    }
  }
  return table;
}
