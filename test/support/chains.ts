import type { Packages } from '../../src/apply/executor.js';
import { MemoryCompanions } from '../../src/companions/memory.js';
import { ATTACH_POINTS } from '../../src/domain/attach-points/registry.js';
import { type DesiredState, normalize } from '../../src/domain/desired.js';
import type { AttachPointName, ChainHook } from '../../src/domain/hook.js';
import { hookAt, type Observed, standingChain } from '../../src/domain/observed.js';
import { ROOT_NAMES } from '../../src/domain/pins.js';
import type { Program } from '../../src/domain/program.js';
import type { RestartPolicy } from '../../src/domain/restarts.js';
import type { PlanContext, RootProgram } from '../../src/plan/context.js';
import { builtObject } from './project.js';

/** A desired program made of the marker, which only counts and passes packets on. */
export function program(
  name: string,
  seqId: number,
  overrides: Partial<Program> = {},
  direction: AttachPointName = 'xdpingress',
): Program {
  const object = direction === 'xdpingress' ? 'xdp_mark' : 'tc_mark';
  return {
    name,
    version: '1.0',
    seqId,
    artifact: 'mark.tar.gz',
    repoUrl: '',
    objectFile: `${object}.bpf.o`,
    entryFunction: object,
    mapName: 'mark_next',
    enabled: true,
    mapArgs: [],
    carryMaps: [],
    path: `0.bpf_programs.list.${seqId}`,
    payload: { name, seq_id: seqId },
    ...overrides,
  };
}

export function desiredAt(hook: ChainHook, ...programs: readonly Program[]): DesiredState {
  return normalize({ chains: [{ hook, programs }], addresses: {} });
}

/** Packages whose object files are the repository's own, named by `objectFile`. */
export const builtPackages: Packages = {
  ensure: async () => undefined,
  objectPath: async (_ref, objectFile) => builtObject(objectFile.replace('.bpf.o', '')),
};

/** The default restart policy of the settings. */
export const restartPolicy: RestartPolicy = { maxRestarts: 5, windowMs: 10 * 60_000, backOffMs: 10_000 };

/** For tests whose programs have no companions. */
export const noCompanions = new MemoryCompanions();

const ATTACHED = Object.entries(ATTACH_POINTS);

export function planContext(bpffs: string, chaining = true): PlanContext {
  const roots = ATTACHED.map(([direction, { root }]): [string, RootProgram] => {
    const { name, object, entryFunction, slotMap } = root;
    const source = { kind: 'builtin', objectPath: builtObject(object) } as const;
    return [direction, { name, version: 'latest', digest: '0'.repeat(16), object: source, entryFunction, slotMap }];
  });
  return {
    bpffs,
    chaining,
    ordered: new Set(
      ATTACHED.filter(([, { order }]) => order !== 'never').map(([direction]) => direction as AttachPointName),
    ),
    roots: Object.fromEntries(roots) as PlanContext['roots'],
  };
}

/**
 * The programs that a packet passes at a hook, as `name@version`, without the root; undefined if nothing is attached.
 */
export function pathAt(observed: Observed, hook: ChainHook): string[] | undefined {
  const at = hookAt(observed, hook);
  if (!at.attachments.some((attachment) => attachment.attached)) return undefined;
  return standingChain(at)
    .filter(({ name }) => !ROOT_NAMES.includes(name))
    .map(({ name, versionSegment }) => `${name}@${versionSegment}`);
}
