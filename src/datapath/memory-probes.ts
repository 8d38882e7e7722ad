import type { MapInfo, ObservedProbe, ProbeGeneration } from '../domain/observed.js';
import { parseProbesName } from '../domain/pins.js';
import { parseProbeSection } from '../domain/probe.js';
import { AgentError } from '../errors.js';
import type { KernelIds } from './datapath.js';
import type { ObjectFile } from './object.js';

/** The functions of an object whose sections are probes'. @throws AgentError OBJECT_INVALID */
export function probeFunctions({ sections }: ObjectFile): string[] {
  return [...sections].flatMap(([name, section]) => {
    try {
      return parseProbeSection(section) === undefined ? [] : [name];
    } catch (cause) {
      throw new AgentError('OBJECT_INVALID', cause instanceof Error ? cause.message : String(cause), { cause });
    }
  });
}

/** @param only the one function that is wanted; '' for all. @throws AgentError ENTRY_FUNCTION_NOT_FOUND */
export function chooseProbes(object: ObjectFile, only: string): string[] {
  const chosen = probeFunctions(object).filter((name) => only === '' || name === only);
  if (chosen.length > 0) return chosen;
  const there = [...object.sections].map(([name, section]) => `${name} (${section})`).join(', ') || 'nothing';
  throw new AgentError('ENTRY_FUNCTION_NOT_FOUND', `The object has no probe${only && ` ${only}`}; it has ${there}`);
}

/** The probes of the datapath without a kernel, by the directory that they are pinned in. None of them ever runs. */
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

  /** Those of the ids that are pinned still, each in words. */
  held({ programs, links }: KernelIds): string[] {
    return [...this.#byDir].flatMap(([dir, probes]) =>
      probes
        .filter(({ programId, linkId }) => programs.includes(programId ?? 0) || links.includes(linkId ?? 0))
        .map((probe) => `probe ${probe.function} is held by its pins in ${dir}`),
    );
  }

  /** Of the host, the newest load of a name last; with the maps of each. */
  generations(root: string, mapsOf: ReadonlyMap<string, readonly MapInfo[]>): ProbeGeneration[] {
    const dirs = new Set([...this.#byDir.keys(), ...mapsOf.keys()].filter((dir) => dir.startsWith(`${root}/`)));
    const found = [...dirs].flatMap((dir): ProbeGeneration[] => {
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
