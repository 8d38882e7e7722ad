import { PackageCache } from '../../../src/packages/cache.js';

/*
 * A process that fetches one package after the other into a cache and says so, until it is killed.
 * Its arguments: the cache's folder, the repository, and how many versions there are.
 */

const [, , dir = '', repoUrl = '', versions = ''] = process.argv;
const cache = new PackageCache({ dir, repoUrl, platform: 'any', env: {}, keep: { unusedMs: 0 } });
await cache.open();
process.stdout.write('open\n');
for (let round = 0; ; round++) {
  const version = `${round % Number(versions)}`;
  await cache.ensure({ name: 'p', version, artifact: 'p.tar.gz', repoUrl: '' });
  // What nothing asks for goes, so that the next round fetches it anew.
  if (version === '0') await cache.collect([]);
}
