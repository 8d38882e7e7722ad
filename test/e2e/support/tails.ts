import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type PackageSpec, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { numberIn, pathsIn } from './kernel.js';
import { PLATFORM, type Stage } from './stage.js';

/*
 * Markers without a slot for TC chains, in addition to those with a slot.
 */

const VERSIONS = ['1.0', '2.0'] as const;
/** The length of the longest chain of them in a test. */
const COUNT = 5;

/** Packages `tc-tail-1` to `tc-tail-5`. */
export const TAIL_PACKAGES: readonly PackageSpec[] = Array.from({ length: COUNT }, (_, index) =>
  VERSIONS.map((version) => ({
    name: `tc-tail-${index + 1}`,
    version,
    platform: PLATFORM,
    artifact: 'tail.tar.gz',
    files: { 'tc_tail.bpf.o': builtObject('tc_tail') },
  })),
).flat();

/**
 * Short notation for a chain: `1 +2 3@2.0` are three markers by number; the second has a slot. `3!` accepts the packet,
 * so that no program behind it runs.
 */
export function markers(words: string): PayloadProgram[] {
  return words
    .split(' ')
    .filter((word) => word !== '')
    .map((word, index) => {
      const [, slot, number, accepts, version = '1.0'] = /^(\+?)(\d)(!?)(?:@(.+))?$/.exec(word) ?? [];
      const common = { seq_id: 10 * (index + 1), version };
      if (slot === '+') return payloadProgram(`tc-mark-${Number(number) as 1 | 2 | 3 | 4 | 5}`, common);
      return {
        ...payloadProgram('tc-mark', common),
        name: `tc-tail-${number}`,
        artifact: 'tail.tar.gz',
        map_name: '',
        object_file: 'tc_tail.bpf.o',
        entry_function_name: accepts === '!' ? 'tc_tail_ok' : 'tc_tail',
        map_args: [{ name: 'mark_id', args: [{ key: 0, value: Number(number) }] }],
      };
    });
}

/** A marker's count; 0 if it is not loaded. */
export async function countOf(stage: Stage, { name, version }: PayloadProgram, map: string): Promise<number> {
  return (await numberIn(stage.tcMap(name, version, map))) ?? 0;
}

/** The paths of the probes that have reached a marker, such as `1-2-3`, each with its number of probes. */
export async function waysTo(stage: Stage, { name, version }: PayloadProgram): Promise<Record<string, number>> {
  const path = stage.tcMap(name, version, 'mark_paths');
  return existsSync(path) ? pathsIn(path) : {};
}

/** Pins of the extra links, which run what follows a program without a slot, by the name of their first program. */
export async function furtherLinks(stage: Stage): Promise<ReadonlyMap<string, string>> {
  const links = join(stage.bpffs, 'links', stage.bed.iface);
  const pins = await readdir(links, { recursive: true, withFileTypes: true });
  const further = pins.filter((entry) => entry.isFile() && /^(ingress|egress)-/.test(entry.name));
  return new Map(
    further.map((entry) => [
      entry.parentPath.slice(links.length + 1).split('/')[0]!,
      join(entry.parentPath, entry.name),
    ]),
  );
}
