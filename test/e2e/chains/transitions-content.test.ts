import { join } from 'node:path';
import { ATTACH_POINTS } from '../../../src/domain/attach-points/registry.js';
import { DIRECTIONS, type Direction } from '../../support/directions.js';

import { buildRepository, type PackageSpec, type PayloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { repeats } from '../../support/repeats.js';
import { PLATFORM } from '../support/stage.js';
import { byDeploys, type Change, chainOf, contentChange, versionChange } from '../support/transition-kinds.js';
import { testTransitions } from '../support/transitions.js';

/*
 * New content under the same version, and chains that grow and shrink by more than one program. Each command changes
 * three hooks.
 */

const TIMES = repeats({ usual: 2, full: 5 });

/** Packages whose program exists in two artifacts and two objects, with two entry functions and two slots. */
const PAIRS = (['xdp', 'tc'] as const).flatMap((kind): PackageSpec[] => {
  const object = builtObject(`${kind}_mark_pair`);
  const files = { 'pair.bpf.o': object, 'again.bpf.o': object };
  const spec = { name: `${kind}-mark-2`, version: '1.0', platform: PLATFORM, files };
  return [
    { ...spec, artifact: 'pair.tar.gz' },
    { ...spec, artifact: 'rebuilt.tar.gz' },
  ];
});

testTransitions({
  host: 'transitions-content',
  title: 'at three hooks in one command, each packet passes the remaining programs exactly once',
  packages: PAIRS,
  async all(stage) {
    const mirror = join(stage.repository, 'mirror');
    await buildRepository(mirror, PAIRS);
    const everywhere = (what: string, changeAt: (direction: Direction) => Change) =>
      byDeploys(what, DIRECTIONS.map(changeAt), TIMES);
    return [
      everywhere('another version', (direction) => versionChange(direction, 1)),
      everywhere('another artifact', otherContent({ artifact: 'rebuilt.tar.gz' })),
      everywhere('another object file', otherContent({ object_file: 'again.bpf.o' })),
      everywhere('another entry function', (direction) =>
        otherContent({ entry_function_name: `${ATTACH_POINTS[direction].programType}_mark_too` })(direction),
      ),
      everywhere('another map_name', otherContent({ map_name: 'mark_next_too' })),
      everywhere('another repository URL', otherContent({ ebpf_package_repo_url: `file://${mirror}` })),
      everywhere('from one program to five', growth([1])),
      everywhere('from one program to five around it', growth([3])),
    ];
  },
});

function otherContent(fields: Partial<PayloadProgram>): (direction: Direction) => Change {
  return (direction) => {
    const chain = chainOf(direction, [1, 2, 3]);
    const pair = { ...chain[1]!, artifact: 'pair.tar.gz', object_file: 'pair.bpf.o' };
    return contentChange(chain.with(1, pair), { direction, at: 1, fields });
  };
}

function growth(from: readonly number[]): (direction: Direction) => Change {
  return (direction) => ({ direction, from: chainOf(direction, from), to: chainOf(direction, [1, 2, 3, 4, 5]) });
}
