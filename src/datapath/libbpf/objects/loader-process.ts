import { writeSync } from 'node:fs';
import { libc } from '../abi/ffi.js';
import { loadProbes, loadProgram } from './load.js';
import { type LoadOrder, type LoadResult, plain } from './loader-protocol.js';

/*
 * The process in which libbpf opens and loads objects; see `ObjectLoader`. It gets orders from the agent, one at a time,
 * and answers each.
 */

/** The descriptor on which the agent reads what is being done. */
const PROGRESS = 4;
/** include/uapi/linux/prctl.h and asm-generic/signal.h. */
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/** Written at once: after a crash it is too late. */
function report(doing: string): void {
  writeSync(PROGRESS, `${doing}\n`);
}

async function handle(order: LoadOrder): Promise<LoadResult> {
  const { kind, request, bpffs, maxMapBytes } = order;
  const context = { bpffs, maxMapBytes, report };
  try {
    return kind === 'program' ? await loadProgram(request, context) : await loadProbes(request, context);
  } catch (error) {
    return { error: plain(error) };
  }
}

// If the agent is killed in the middle of a load, nothing must be pinned after the next agent has looked at bpffs.
libc().prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
// An agent that ended before the call above has closed the channel.
process.once('disconnect', () => process.exit());
// Signals to the whole process group or control group are the agent's to handle: it may be in the middle of a command.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('message', (order: LoadOrder) => {
  void handle(order).then((result) => process.send?.(result));
});
