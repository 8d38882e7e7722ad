import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { attempt, type Probe } from './attempt.js';
import { attachFilter } from './clsact.js';
import { check } from './errno.js';
import { Fd } from './fd.js';
import { libbpf } from './ffi.js';
import { interfaceIndex } from './interfaces.js';
import { ATTACH_TYPE } from './link.js';
import { loadProbeProgram } from './probe-program.js';

const run = promisify(execFile);

/** Tries the hooks of interfaces on a veth pair that exists only for that. */
export async function probeHooks(): Promise<Probe[]> {
  const iface = `l3chk${randomBytes(3).toString('hex')}`;
  try {
    await run('ip', ['link', 'add', iface, 'type', 'veth', 'peer', 'name', `${iface}p`]);
  } catch (error) {
    const reason = `cannot make a veth pair to try it on: ${whatWasSaid(error)}`;
    return ['XDP link', 'TCX link', 'clsact filter'].map((name) => ({ name, ok: false, reason }));
  }
  try {
    return [
      attempt('XDP link', () => tryLink('xdp', iface, ATTACH_TYPE.xdpingress)),
      attempt('TCX link', () => tryLink('tc', iface, ATTACH_TYPE.ingress)),
      attempt('clsact filter', () => tryFilter(iface)),
    ];
  } finally {
    await run('ip', ['link', 'delete', iface]);
  }
}

function tryLink(kind: 'xdp' | 'tc', iface: string, attachType: number): undefined {
  using program = loadProbeProgram(kind);
  const link = libbpf().bpf_link_create(program.number, interfaceIndex(iface), attachType, null);
  using _link = new Fd(check(link, 'the kernel refuses the link'));
}

function tryFilter(iface: string): undefined {
  using program = loadProbeProgram('tc');
  attachFilter(program, { iface, direction: 'ingress' }, interfaceIndex(iface), () => false);
}

/** What `ip` wrote on stderr, or why it could not be run. */
function whatWasSaid(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const said = 'stderr' in error ? String(error.stderr).trim() : '';
  return said === '' ? error.message : said;
}
