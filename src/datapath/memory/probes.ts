import type { LoadedProbes, MapInfo, ObservedProbe } from '../../domain/observed.js';
import { parseProbesName } from '../../domain/pins.js';
import { noProbe, type ObjectProgram, parseProbeSection, refuseOtherKinds } from '../../domain/probe.js';
import { AgentError, messageOf } from '../../errors.js';
import type { KernelIds } from '../datapath.js';
import type { MemoryObject } from './object.js';

/** The functions of an object whose section names are those of probes. @throws AgentError OBJECT_INVALID */
export function probeFunctions({ sections }: MemoryObject): string[] {
  return [...sections].flatMap(([name, section]) => {
    try {
      return parseProbeSection(section) === undefined ? [] : [name];
    } catch (cause) {
      throw new AgentError('OBJECT_INVALID', messageOf(cause), { cause });
    }
  });
}

/**
 * @param only the only function that is wanted; '' for all
 * @throws AgentError ENTRY_FUNCTION_NOT_FOUND, OBJECT_INVALID
 */
export function chooseProbes(object: MemoryObject, only: string): string[] {
  if (only === '') refuseOtherKinds(wantedIn(object));
  const chosen = probeFunctions(object).filter((name) => only === '' || name === only);
  if (chosen.length > 0) return chosen;
  throw noProbe(programsIn(object), only);
}

/** The object's programs, without those that it leaves out itself. */
export function wantedIn(object: MemoryObject): readonly ObjectProgram[] {
  return programsIn(object).filter(({ section }) => !section.startsWith('?'));
}

/** Some of the object's programs, by their functions. */
export function programsNamed(object: MemoryObject, names: readonly string[]): readonly ObjectProgram[] {
  return programsIn(object).filter(({ name }) => names.includes(name));
}

function programsIn({ sections }: MemoryObject): readonly ObjectProgram[] {
  return [...sections].map(([name, section]) => ({ name, section }));
}

/** The probes of the datapath without a kernel, by the directory in which they are pinned. They never run. */
export class MemoryProbes {
  readonly #byDir = new Map<string, readonly ObservedProbe[]>();
  readonly #nextId: () => number;

  constructor(nextId: () => number) {
    this.#nextId = nextId;
  }

  attach(dir: string, functions: readonly string[]): void {
    if (functions.length === 0) return;
    const probes = functions
      .toSorted()
      .map((name) => ({ function: name, programId: this.#nextId(), linkId: this.#nextId() }));
    this.#byDir.set(dir, probes);
  }

  at(dir: string): readonly ObservedProbe[] {
    return this.#byDir.get(dir) ?? [];
  }

  move(from: string, to: string): void {
    const probes = this.#byDir.get(from);
    if (probes === undefined && this.#byDir.has(to)) return;
    if (probes === undefined) throw new AgentError('KERNEL', `There are no probes in ${from}`);
    this.#byDir.delete(from);
    this.#byDir.set(to, probes);
  }

  discard(dir: string): void {
    this.#byDir.delete(dir);
  }

  /** A description of each id in the list that is still pinned. */
  held({ programs, links }: KernelIds): string[] {
    return [...this.#byDir].flatMap(([dir, probes]) =>
      probes
        .filter(({ programId, linkId }) => programs.includes(programId ?? 0) || links.includes(linkId ?? 0))
        .map((probe) => `probe ${probe.function} is held by its pins in ${dir}`),
    );
  }

  /** The probes of the host, with their maps; the newest load of a name comes last. */
  loaded(root: string, mapsOf: ReadonlyMap<string, readonly MapInfo[]>): LoadedProbes[] {
    const dirs = new Set([...this.#byDir.keys(), ...mapsOf.keys()].filter((dir) => dir.startsWith(`${root}/`)));
    const found = [...dirs].flatMap((dir): LoadedProbes[] => {
      const [name = '', versionSegment = '', last = ''] = dir.slice(root.length + 1).split('/');
      const parsed = parseProbesName(last);
      if (parsed === undefined) return [];
      return [
        { name, versionSegment, ...parsed, dir, probes: this.at(dir), maps: mapsOf.get(dir) ?? [], lostMaps: [] },
      ];
    });
    return found.toSorted((a, b) => a.serial - b.serial);
  }
}
