import { type Difference, versionOf } from './difference.js';
import type { LoadedProbes } from './observed.js';
import { contentDigest, type Program } from './program.js';

/**
 * Differences between the probes of a host and the desired ones; empty if there are none.
 *
 * @param standing without what interrupted loads have left
 */
export function probeDifferencesOf(wanted: readonly Program[], standing: readonly LoadedProbes[]): Difference[] {
  return [
    ...standing.flatMap((load) => loadDifferences(load, wanted, standing)),
    ...wanted
      .filter(({ name, enabled }) => enabled && !standing.some((load) => load.name === name))
      .map(({ name, version }) => about('missing', name, `${name} ${version} is desired, but not attached`)),
  ];
}

function loadDifferences(
  load: LoadedProbes,
  wanted: readonly Program[],
  standing: readonly LoadedProbes[],
): Difference[] {
  const { name, digest } = load;
  const version = versionOf(load, wanted);
  const program = wanted.find((other) => other.name === name);
  const extra = about('extra', name, `${name} ${version} is attached, but not desired`);
  if (program === undefined) return [extra];
  if (!program.enabled) return [about('disabled', name, `${name} ${version} is attached, though it is disabled`)];
  const asked = contentDigest(program);
  if (digest === asked) return load.probes.flatMap((probe) => partDifferences(probe, name, version));
  if (standing.some((other) => other.name === name && other.digest === asked)) return [extra];
  const text =
    version === program.version
      ? `${name} ${version} does not run the desired code`
      : `${name} runs as ${version}, but ${program.version} is desired`;
  return [about('version', name, text)];
}

function partDifferences(
  { function: part, linkId, programId }: LoadedProbes['probes'][number],
  name: string,
  version: string,
): Difference[] {
  if (linkId === undefined) return [about('detached', name, `${part} of ${name} ${version} is not attached`)];
  if (programId !== undefined) return [];
  return [about('missing', name, `${part} of ${name} ${version} is attached, but its program is not pinned`)];
}

function about(kind: Difference['kind'], program: string, text: string): Difference {
  return { kind, programs: [program], text };
}
