import assert from 'node:assert/strict';
import type { PackageSpec, PayloadProgram } from '../../support/packages.js';
import { Probed } from '../../support/probed.js';
import { PLATFORM, Stage } from './stage.js';

/** A stage with packages of probes, and a running program for the probes to observe. */
export interface ProbesStage {
  readonly stage: Stage;
  readonly probed: Probed;
  /** Process id of the program. */
  readonly pid: number;
  /** Removes what a test has deployed, and checks that nothing is left. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

/** A companion that checks for the map of its program and prints its arguments. */
const WATCH = `#!/bin/sh
for option in "$@"; do case $option in --bpffs=*) bpffs=\${option#--bpffs=} ;; esac; done
[ -e "$bpffs/probes/events/1_0/event_counts" ] || exit 4
echo "watching $*"
exec sleep 1000
`;

/** @param intervalMs interval of the repairs */
export async function openProbesStage(host: string, intervalMs: number): Promise<ProbesStage> {
  const probed = await Probed.make();
  const pid = probed.start();
  const env = { L3AF_RECONCILE_INTERVAL: `${intervalMs}ms` };
  const stage = await Stage.open({ host, packages: await packagesOf(probed), env });
  return {
    stage,
    probed,
    pid,
    async clear() {
      const { status, message } = await stage.deploy({});
      assert.match(status, /^(applied|unchanged)$/, message);
      const state = await stage.kernel();
      assert.deepEqual(state.entries, []);
      assert.deepEqual(await stage.leaked(state), []);
    },
    async close() {
      await stage.close();
      await probed.close();
    },
  };
}

async function packagesOf(probed: Probed): Promise<PackageSpec[]> {
  const spec = (name: string, version: string, object: string): PackageSpec => ({
    name,
    version,
    platform: PLATFORM,
    artifact: `${name}.tar.gz`,
    files: { 'probe.bpf.o': object, watch: { script: WATCH }, fail: { script: '#!/bin/sh\nexit 3\n' } },
  });
  return [
    spec('events', '1.0', await probed.object('events')),
    spec('events', '2.0', await probed.object('events')),
    spec('calls', '1.0', await probed.object('calls')),
    spec('beside', '1.0', await probed.object('beside')),
    spec('mixed', '1.0', await probed.object('mixed')),
    spec('kernel-function', '1.0', await probed.object('single', 'kprobe/do_nanosleep')),
    spec('function-entry', '1.0', await probed.object('single', 'fentry/bpf_fentry_test1')),
    spec('no-such-tracepoint', '1.0', await probed.object('single', 'tracepoint/syscalls/sys_enter_nothing')),
  ];
}

/** A payload's entry for one of these packages, with changes. */
export function probe(name: string, changes: Partial<PayloadProgram> = {}): PayloadProgram {
  const program = { name, seq_id: 1, version: '1.0', artifact: `${name}.tar.gz`, object_file: 'probe.bpf.o' };
  return { ...program, ...changes } as PayloadProgram;
}

/** Makes the probes count for one process. */
export function watching(pid: number): Pick<PayloadProgram, 'map_args'> {
  return { map_args: [{ name: 'watched_pid', args: [{ key: 0, value: pid }] }] };
}
