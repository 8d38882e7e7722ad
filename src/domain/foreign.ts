/**
 * A program or filter at the hook of a chain that is not the agent's. It matters where the kernel ends at the first
 * verdict: what runs before the chain can keep packets from it, and the chain can keep packets from what runs behind.
 */
export interface ForeignProgram {
  /** The kernel's program id; 0 for a filter that is no BPF program. */
  readonly id: number;
  /** As the kernel has it: of a program its function, of a filter its kind. */
  readonly name: string;
  readonly runs: 'before' | 'behind';
}

/** A sentence about what it does to the chain, or the chain to it. */
export function foreignInWords({ id, name, runs }: ForeignProgram): string {
  const what = id === 0 ? `A filter (${name})` : `Program ${id} (${name})`;
  return runs === 'before'
    ? `${what}, which is not ours, runs before the chain; packets that it accepts or drops never reach the chain`
    : `${what}, which is not ours, runs behind the chain; packets that the chain accepts or drops never reach it`;
}
