import { mkdir, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import type { CompanionLaunch } from '../domain/companion.js';
import { AgentError } from '../errors.js';

/** A package may serve several hooks, each with rules of its own. Below this folder there is one for each. */
const FOLDER = '.rules';

/**
 * Writes a companion's rules below its package's folder.
 *
 * @param program the path of its `cmd_start`
 * @returns path of the file, '' if there are no rules
 * @throws AgentError COMPANION_FAILED if the folder is no longer within the package
 */
export async function writeRules(program: string, { hook, companion }: CompanionLaunch): Promise<string> {
  const { rules, rulesFile } = companion;
  if (rules === '' || rulesFile === '') return '';
  const home = dirname(program);
  const inside = `${await realpath(home)}${sep}`;
  let folder = home;
  for (const name of [FOLDER, hook.iface, hook.direction]) {
    folder = join(folder, name);
    await mkdir(folder, { recursive: true });
    // A companion can make links where the package could not: nothing is made behind one that leads out.
    if (!(await realpath(folder)).startsWith(inside)) {
      throw new AgentError('COMPANION_FAILED', `The rules file would lie outside its package: ${folder} is a link`);
    }
  }
  const path = join(folder, rulesFile);
  await rm(`${path}.new`, { force: true });
  await writeFile(`${path}.new`, rules, { mode: 0o600, flag: 'wx' });
  await rename(`${path}.new`, path);
  return path;
}
