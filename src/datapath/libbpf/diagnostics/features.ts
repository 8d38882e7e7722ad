import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { AgentError } from '../../../errors.js';
import { check } from '../abi/errno.js';
import { Fd } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { isBpffs } from '../pins/bpffs.js';
import { attachFeatures } from './attach-features.js';
import { attempt, type Feature } from './attempt.js';
import { tracingFeatures } from './tracing-features.js';

export interface ProbeOptions {
  /** Where bpffs is or will be mounted. */
  readonly bpffs: string;
}

export type { Feature };

const BPF_MAP_TYPE_ARRAY = 2;

/** Bits of CapEff (include/uapi/linux/capability.h). */
const CAPABILITIES = { CAP_BPF: 39, CAP_NET_ADMIN: 12, CAP_PERFMON: 38, CAP_SYS_ADMIN: 21 } as const;

/**
 * What this machine and this process support, found by trying and not by comparing versions. Everything that is created
 * is removed at once: programs of two instructions, a veth pair with its own name, a folder in bpffs. Existing
 * interfaces are not touched.
 */
export async function detectFeatures({ bpffs }: ProbeOptions): Promise<Feature[]> {
  const library = attempt('libbpf', () => libbpf().libbpf_version_string());
  const privileges = Object.entries(CAPABILITIES).map(([name, bit]) => attempt(name, () => probeCapability(bit)));
  if (!library.ok) return [library, ...privileges];
  return [
    library,
    ...privileges,
    attempt('BPF system call', probeSyscall),
    attempt('BTF', probeBtf),
    attempt('bpffs', () => probeBpffs(bpffs)),
    ...(await attachFeatures()),
    ...tracingFeatures(),
  ];
}

/**
 * Checks what the agent needs in any case, before it takes the first command.
 *
 * @throws AgentError NO_PRIVILEGE saying what is missing and what can be done
 */
export function requireBpf(): void {
  const missing = [
    attempt('the BPF system call', probeSyscall),
    attempt('CAP_NET_ADMIN', () => probeCapability(CAPABILITIES.CAP_NET_ADMIN)),
  ].find(({ ok }) => !ok);
  if (missing === undefined) return;
  throw new AgentError(
    'NO_PRIVILEGE',
    `This process cannot use ${missing.name}: ${missing.reason}. Run the agent as root, or grant it CAP_BPF, CAP_NET_ADMIN and ` +
      'CAP_PERFMON; l3af-agent check tells more. To try it without a kernel, add --datapath memory.',
  );
}

function probeCapability(bit: number): undefined {
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
  if ((BigInt(`0x${effective}`) & (1n << BigInt(bit))) === 0n) throw new Error('this process does not have it');
}

function probeSyscall(): undefined {
  using _map = new Fd(
    check(libbpf().bpf_map_create(BPF_MAP_TYPE_ARRAY, 'l3af_check', 4, 4, 1, null), 'cannot make a map'),
  );
}

function probeBtf(): string {
  const path = '/sys/kernel/btf/vmlinux';
  if (existsSync(path)) return path;
  throw new Error(
    `${path} is absent: the kernel was built without CONFIG_DEBUG_INFO_BTF; CO-RE programs cannot be loaded`,
  );
}

function probeBpffs(path: string): string {
  if (!isBpffs(path))
    throw new Error(`none is mounted at ${path}; the agent mounts it at its start, if it has the privilege`);
  const folder = `${path}/l3af-check-${process.pid}`;
  mkdirSync(folder);
  rmdirSync(folder);
  return path;
}
