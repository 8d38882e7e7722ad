import { type Difference, versionOf } from './difference.js';
import type { ProbeGeneration } from './observed.js';
import { contentDigest, type Program } from './program.js';

/**
 * How the probes of a host differ from those that are desired; empty if they do not.
 *
 * @param standing without those that a load which was cut short has left
 */
export function probeDifferencesOf(wanted: readonly Program[], standing: readonly ProbeGeneration[]): Difference[] {
  return [
    ...standing.flatMap((load) => loadDifferences(load, wanted, standing)),
    ...wanted
      .filter(({ name, enabled }) => enabled && !standing.some((load) => load.name === name))
      .map(({ name, version }) => about('missing', name, `${name} ${version} is desired, and not attached`)),
  ];
}

function loadDifferences(
  load: ProbeGeneration,
  wanted: readonly Program[],
  standing: readonly ProbeGeneration[],
): Difference[] {
  const { name, digest } = load;
  const version = versionOf(load, wanted);
  const program = wanted.find((other) => other.name === name);
  const extra = about('extra', name, `${name} ${version} is attached, and not desired`);
  if (program === undefined) return [extra];
  if (!program.enabled) return [about('disabled', name, `${name} ${version} is attached, though it is disabled`)];
  const asked = contentDigest(program);
  if (digest === asked) return load.probes.flatMap((probe) => partDifferences(probe, name, version));
  if (standing.some((other) => other.name === name && other.digest === asked)) return [extra];
  const text =
    version === program.version
      ? `${name} ${version} runs with other code than is desired`
      : `${name} runs as ${version}, and ${program.version} is desired`;
  return [about('version', name, text)];
}

function partDifferences(
  { function: part, linkId, programId }: ProbeGeneration['probes'][number],
  name: string,
  version: string,
): Difference[] {
  if (linkId === undefined) return [about('detached', name, `${part} of ${name} ${version} is not attached`)];
  if (programId !== undefined) return [];
  return [about('missing', name, `${part} of ${name} ${version} is attached, and its program is not pinned`)];
}

function about(kind: Difference['kind'], program: string, text: string): Difference {
  return { kind, programs: [program], text };
}
