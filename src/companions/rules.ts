import { mkdir, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import type { CompanionLaunch } from '../domain/companion.js';
import { targetName } from '../domain/hook.js';
import { AgentError } from '../errors.js';

/** Folder for rules, with a subfolder for each hook: a package may serve several hooks with different rules. */
const FOLDER = '.rules';

/**
 * Writes a companion's rules to a file in its package's folder.
 *
 * @param program the path of its `cmd_start`
 * @returns path of the file, '' if there are no rules
 * @throws AgentError COMPANION_FAILED if the folder is not within the package
 */
export async function writeRules(program: string, { hook, companion }: CompanionLaunch): Promise<string> {
  const { rules, rulesFile } = companion;
  if (rules === '' || rulesFile === '') return '';
  const home = dirname(program);
  const inside = `${await realpath(home)}${sep}`;
  let folder = home;
  // The path of a control group is one folder, since each folder on the way is checked.
  for (const name of [FOLDER, targetName(hook).replaceAll('/', '%2F'), hook.direction]) {
    folder = join(folder, name);
    await mkdir(folder, { recursive: true });
    // A package holds no links, but a companion can make some. Write nothing through a link that leads out of the
    // package.
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
