import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { ATTACH_POINT_NAMES, type AttachPointName } from '../../../../src/domain/hook.js';
import { AgentError } from '../../../../src/errors.js';
import { command, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { assertEmpty, discard, load, PORT_COUNT, refused, requestFor } from '../../../contract/samples.js';
import { compileObject } from '../../../support/compile.js';
import { PROJECT_ROOT } from '../../../support/project.js';
import { until } from '../../../support/until.js';

/*
 * Objects are opened and loaded in a process of its own. Whatever happens to it, the agent gets an answer.
 */

let kernel: KernelFixture;
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(() => kernel.close());

describe('a process that loads an object and', () => {
  for (const signal of ['SIGSEGV', 'SIGABRT', 'SIGBUS'] as const) {
    it(`crashes (${signal}) makes the object invalid, and the next object is loaded`, async () => {
      await endedWhileLoading(signal, async (loading) => {
        await refused(loading, 'OBJECT_INVALID', new RegExp(`^libbpf crashed \\(${signal}\\) while it was `));
      });
      await discard(kernel, await load(kernel, PORT_COUNT, 'xdpingress'));
    });
  }

  it('is killed by somebody is another matter, and may be tried again', async () => {
    await endedWhileLoading('SIGKILL', async (loading) => {
      await assert.rejects(loading, { code: 'LOAD_FAILED', transient: true, message: /was ended by SIGKILL while/ });
    });
    await discard(kernel, await load(kernel, PORT_COUNT, 'xdpingress'));
  });

  it('was killed while it had nothing to do is replaced', async () => {
    await discard(kernel, await load(kernel, PORT_COUNT, 'xdpingress'));
    const [pid] = loaders();
    process.kill(pid!, 'SIGKILL');
    await until('it has ended', () => !existsSync(`/proc/${pid}`));
    await discard(kernel, await load(kernel, PORT_COUNT, 'xdpingress'));
  });

  it('cannot be started, for want of descriptors, fails the load with that reason', async () => {
    const script = join(PROJECT_ROOT, 'dist', 'test', 'support', 'load-without-descriptors.js');
    const printed = await command('sh', '-c', `ulimit -n 64 && "${process.execPath}" "${script}" "${kernel.bpffs}"`);
    assert.equal(printed.trim(), 'TOO_MANY_OPEN_FILES');
  });

  it('gets a signal that is meant for the agent goes on', async () => {
    const loading = stopped(() => load(kernel, PORT_COUNT, 'xdpingress'));
    const [pid] = loaders();
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGCONT'] as const) process.kill(pid!, signal);
    await discard(kernel, await loading);
  });
});

/** Ends the process as it is about to load an object. Nothing of that may be left. */
async function endedWhileLoading(
  signal: NodeJS.Signals,
  check: (loading: Promise<unknown>) => Promise<void>,
): Promise<void> {
  await discard(kernel, await load(kernel, PORT_COUNT, 'xdpingress'));
  const loading = stopped(() => kernel.datapath.load(requestFor(kernel, PORT_COUNT, 'xdpingress')));
  const [pid] = loaders();
  process.kill(pid!, signal);
  if (signal !== 'SIGKILL') process.kill(pid!, 'SIGCONT');
  await check(loading);
  await assertEmpty(kernel);
}

function stopped<Result>(begin: () => Promise<Result>): Promise<Result> {
  const [pid, ...others] = loaders();
  assert.ok(pid !== undefined && others.length === 0, 'one process loads objects');
  process.kill(pid, 'SIGSTOP');
  return begin();
}

/** Children of this process that load objects. */
function loaders(): number[] {
  const tasks = readdirSync('/proc/self/task');
  const children = tasks.flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').trim().split(' '));
  return children
    .filter((pid) => pid !== '' && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('loader-process.js'))
    .map(Number);
}

/** The sections that libbpf 1.5 knows (section_defs in its libbpf.c), each with a target where it wants one. */
const SECTIONS = [
  ...['socket', 'sk_reuseport', 'sk_reuseport/migrate', 'kprobe/do_exit', 'kretprobe/do_exit', 'uprobe//bin/sh:main'],
  ...['uprobe.s//bin/sh:main', 'uretprobe//bin/sh:main', 'uretprobe.s//bin/sh:main', 'kprobe.multi/do_*'],
  ...['kretprobe.multi/do_*', 'kprobe.session/do_*', 'uprobe.multi//bin/sh:main', 'uprobe.session//bin/sh:main'],
  ...['uretprobe.multi//bin/sh:main', 'uprobe.multi.s//bin/sh:main', 'ksyscall/close', 'kretsyscall/close', 'usdt'],
  ...['usdt//bin/sh:a:b', 'usdt.s//bin/sh:a:b', 'tcx/ingress', 'tcx/egress', 'tc/ingress', 'tc/egress', 'tc', 'tcx'],
  ...[
    'netkit/primary',
    'netkit/peer',
    'classifier',
    'action',
    'tracepoint/sched/sched_switch',
    'tp/sched/sched_switch',
  ],
  ...['tp/', 'tracepoint', 'raw_tracepoint/sched_switch', 'raw_tp/sched_switch', 'raw_tp', 'raw_tracepoint.w/nbd_send'],
  ...['raw_tp.w/nbd_send', 'tp_btf/sched_switch', 'tp_btf/', 'tp_btf', 'fentry/tcp_connect', 'fentry', 'fentry.s/x'],
  ...[
    'fmod_ret/do_exit',
    'fmod_ret.s/do_exit',
    'fexit/tcp_connect',
    'fexit.s/x',
    'freplace/xdp_port_count',
    'freplace/',
  ],
  ...['freplace', 'lsm/file_open', 'lsm.s/file_open', 'lsm_cgroup/socket_bind', 'lsm', 'iter/task', 'iter.s/bpf_map'],
  ...[
    'iter',
    'syscall',
    'xdp.frags/devmap',
    'xdp/devmap',
    'xdp.frags/cpumap',
    'xdp/cpumap',
    'xdp.frags',
    'xdp',
    'xdp_',
  ],
  ...['perf_event', 'lwt_in', 'lwt_out', 'lwt_xmit', 'lwt_seg6local', 'sockops', 'sk_skb/stream_parser', 'sk_skb'],
  ...['sk_skb/stream_verdict', 'sk_skb/verdict', 'sk_msg', 'lirc_mode2', 'flow_dissector', 'cgroup_skb/ingress'],
  ...[
    'cgroup_skb/egress',
    'cgroup/skb',
    'cgroup/sock_create',
    'cgroup/sock_release',
    'cgroup/sock',
    'cgroup/post_bind4',
  ],
  ...['cgroup/post_bind6', 'cgroup/bind4', 'cgroup/connect4', 'cgroup/connect_unix', 'cgroup/sendmsg4', 'cgroup/dev'],
  ...['cgroup/recvmsg4', 'cgroup/getpeername4', 'cgroup/getsockname4', 'cgroup/sysctl', 'cgroup/getsockopt'],
  ...['cgroup/setsockopt', 'struct_ops', 'struct_ops/x', 'struct_ops.s/x', 'sk_lookup', 'netfilter', 'sleepable'],
  ...[
    '?xdp',
    '?fentry/x',
    '?tp_btf/sched_switch',
    '.text',
    'license',
    'maps',
    '.maps',
    '.BTF',
    'version',
    '',
    '/',
    '?',
    'xdp/',
  ],
  ...['freplace.s/x', 'tp_btf.s/x', 'iter.s', 'fexit.', 'FENTRY/x', ' xdp', 'xdp\u00e9'],
];

/** The longest name that fits into the place of the one in the object. */
const PLACE = `xdp/${'_'.repeat(40)}`;

describe('an object with the entry function in any section', () => {
  let folder: string;
  let object: Buffer;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'l3af-sections-'));
    const path = join(folder, 'any.bpf.o');
    await compileObject('any_section', path, `-DSECTION="${PLACE}"`);
    object = readFileSync(path);
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const list of [...ATTACH_POINT_NAMES, 'probes'] as const) {
    it(`is loaded or refused in the list ${list}, and ends neither the agent nor the process that loads it`, async (t) => {
      const outcomes = new Map<string, number>();
      for (const section of SECTIONS) {
        const outcome = await outcomeOf(section, list);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
      t.diagnostic(JSON.stringify(Object.fromEntries(outcomes)));
      await assertEmpty(kernel);
    });
  }

  async function outcomeOf(section: string, list: AttachPointName | 'probes'): Promise<string> {
    const objectPath = join(folder, 'section.bpf.o');
    writeFileSync(objectPath, renamed(object, PLACE, section));
    const request = requestFor(
      kernel,
      { object: 'any', entryFunction: 'any_section', slotMap: '' },
      list === 'probes' ? 'xdpingress' : list,
      { objectPath },
    );
    try {
      if (list === 'probes') await kernel.datapath.loadProbes({ ...request, treatment: 'load' });
      else await kernel.datapath.load(request);
    } catch (error) {
      assert.ok(error instanceof AgentError, `${section}: ${error instanceof Error ? error.stack : error}`);
      assert.doesNotMatch(error.message, /crashed|was ended/, section);
      return error.code;
    }
    await kernel.datapath.discard(request.dir);
    return 'loaded';
  }
});

/** The object with another name in its table of section names. */
function renamed(object: Buffer, from: string, to: string): Buffer {
  const bytes = Buffer.from(object);
  const name = Buffer.alloc(from.length);
  assert.ok(name.write(to) === Buffer.byteLength(to), `${to} is too long`);
  let at = bytes.indexOf(`${from}\0`);
  assert.notEqual(at, -1);
  for (; at !== -1; at = bytes.indexOf(`${from}\0`, at + 1)) name.copy(bytes, at);
  return bytes;
}
