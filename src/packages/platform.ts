import { readFile } from 'node:fs/promises';

/** The folder of a repository that holds packages for every platform. */
export const ANY_PLATFORM = 'any';

/**
 * The name of this host's platform in a package repository: the distribution's codename (`bookworm`, `jammy`), or else
 * its id and version (`rhel9.4`), or else `any`. For keys and quoting see os-release(5).
 */
export async function distributionCodename(osReleasePath = '/etc/os-release'): Promise<string> {
  const text = await readFile(osReleasePath, 'utf8').catch(() => '');
  const release = new Map(text.split('\n').flatMap(assignment));
  const codename = release.get('VERSION_CODENAME') || release.get('UBUNTU_CODENAME');
  if (codename) return codename;
  const id = release.get('ID');
  return id ? `${id}${release.get('VERSION_ID') ?? ''}` : ANY_PLATFORM;
}

function assignment(line: string): [string, string][] {
  const match = /^\s*([A-Z0-9_]+)=(?:"([^"]*)"|'([^']*)'|(\S*))\s*$/.exec(line);
  if (match?.[1] === undefined) return [];
  return [[match[1], match[2] ?? match[3] ?? match[4] ?? '']];
}
