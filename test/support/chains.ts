import type { Packages } from '../../src/apply/executor.js';
import { MemoryCompanions } from '../../src/companions/memory.js';
import { type DesiredState, normalize } from '../../src/domain/desired.js';
import type { Direction, Hook } from '../../src/domain/hook.js';
import { hookAt, type Observed, standingChain } from '../../src/domain/observed.js';
import type { Program } from '../../src/domain/program.js';
import type { RestartPolicy } from '../../src/domain/restarts.js';
import type { PlanContext, RootProgram } from '../../src/plan/context.js';
import { builtObject } from './project.js';

/** A desired program made of the marking test program, which does nothing but count and pass on. */
export function program(
  name: string,
  seqId: number,
  overrides: Partial<Program> = {},
  direction: Direction = 'xdpingress',
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

export function desiredAt(hook: Hook, ...programs: readonly Program[]): DesiredState {
  return normalize({ chains: [{ hook, programs }], addresses: {} });
}

/** Packages whose object files are the repository's own, named by `objectFile`. */
export const builtPackages: Packages = {
  ensure: async () => undefined,
  objectPath: async (_ref, objectFile) => builtObject(objectFile.replace('.bpf.o', '')),
};

/** As the settings have it unless told otherwise. */
export const restartPolicy: RestartPolicy = { maxRestarts: 5, windowMs: 10 * 60_000, backOffMs: 10_000 };

/** For programs that have none. */
export const noCompanions = new MemoryCompanions();

export function planContext(bpffs: string, chaining = true): PlanContext {
  const root = (object: string, entryFunction: string, slotMap: string): RootProgram => ({
    name: object.replace('_', '-'),
    version: 'latest',
    digest: '0'.repeat(16),
    object: { kind: 'builtin', objectPath: builtObject(object) },
    entryFunction,
    slotMap,
  });
  return {
    bpffs,
    chaining,
    tcx: true,
    roots: {
      xdpingress: root('xdp_root', 'xdp_root', 'xdp_root_array'),
      ingress: root('tc_root', 'tc_ingress_root', 'tc_ingress_root_array'),
      egress: root('tc_root', 'tc_egress_root', 'tc_egress_root_array'),
    },
  };
}

/** The programs that a packet passes at a hook, as `name@version`, without the root; undefined if nothing is attached. */
export function pathAt(observed: Observed, hook: Hook): string[] | undefined {
  const at = hookAt(observed, hook);
  if (!at.attachments.some((attachment) => attachment.attached)) return undefined;
  return standingChain(at)
    .filter(({ name }) => name !== 'xdp-root' && name !== 'tc-root')
    .map(({ name, versionSegment }) => `${name}@${versionSegment}`);
}
