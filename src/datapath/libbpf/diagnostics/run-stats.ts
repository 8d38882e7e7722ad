import type { RunStats } from '../../datapath.js';
import { check, EPERM, kernelError } from '../abi/errno.js';
import { Fd, tryOpenPin } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { programRuns } from '../abi/info.js';

/** The only member of `enum bpf_stats_type`. */
const BPF_STATS_RUN_TIME = 0;

/** See `Datapath.runStats`. */
export function runStats(programPins: readonly string[]): ReadonlyMap<string, RunStats> {
  const stats = new Map<string, RunStats>();
  for (const pin of programPins) {
    using program = tryOpenPin('prog', pin);
    if (program !== undefined) stats.set(pin, programRuns(program.number));
  }
  return stats;
}

/**
 * See `Datapath.countRuns`: the kernel counts while this descriptor, or another one of its kind, is open (bpf(2),
 * BPF_ENABLE_STATS).
 */
export function countRuns(): Disposable {
  const failed = 'Cannot make the kernel count the runs of programs';
  const result = libbpf().bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (result === -EPERM) throw kernelError(`${failed}: this requires CAP_SYS_ADMIN`, result, 'NO_PRIVILEGE');
  return new Fd(check(result, failed));
}
