import { PackageCache } from '../../../src/packages/cache.js';

/*
 * A process that fetches packages into a cache one after another and reports each, until it is killed.
 * Arguments: the cache's folder, the repository, and the number of versions.
 */

const [, , dir = '', repoUrl = '', versions = ''] = process.argv;
const cache = new PackageCache({ dir, repoUrl, platform: 'any', env: {}, keep: { unusedMs: 0 } });
await cache.open();
process.stdout.write('open\n');
for (let round = 0; ; round++) {
  const version = `${round % Number(versions)}`;
  await cache.ensure({ name: 'p', version, artifact: 'p.tar.gz', repoUrl: '' });
  // Removes all packages, so that the next round fetches them again.
  if (version === '0') await cache.collect([]);
}
