import { execFile, execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { rmdirSync } from 'node:fs';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { atExit } from './last-resort.js';
import { Receiver } from './receiver.js';

const run = promisify(execFile);

/**
 * A veth pair: programs are attached to the end in this namespace, packets are sent from the other end, in a namespace of its own.
 * Nothing but what is sent on purpose crosses it: IPv6 is off and nobody has to ask for an address.
 */
export interface Testbed {
  /** Our end. */
  readonly iface: string;
  /** Name of the other end, within its namespace. */
  readonly peer: string;
  /** Path of the namespace, for `nsenter --net=`. (`ip netns exec` mounts /sys anew, and so hides every bpffs below it.) */
  readonly netns: string;
  /** IPv4 address of our end. */
  readonly address: string;
  readonly peerAddress: string;
  /** Deletes the pair and makes it again under the same names: what a driver's reload does to an interface. */
  recreate(): Promise<void>;
  /**
   * Packets from the other end that the pair itself has lost since it was made, because its ring was full: they were sent, but no
   * program had a chance to see them.
   */
  lost(): Promise<number>;
  /** Takes UDP datagrams at the other end. */
  listen(port: number): Promise<Receiver>;
  close(): Promise<void>;
}

/** 198.18.0.0/15 is for tests of networks (RFC 2544); each testbed takes four addresses of it. */
const NETWORK = (198 << 24) | (18 << 16);
const TESTBEDS = 2 ** 17 / 4;
const ATTEMPTS = 20;

/** @param iface name of our end; one that is free unless given */
export async function createTestbed(iface?: string): Promise<Testbed> {
  const { number, namespace } = await claimNamespace();
  const layout = layoutOf(number, namespace, iface);
  const forget = atExit(() => execFileSync('ip', ['netns', 'delete', namespace]));
  const close = async () => {
    // The namespace takes the pair along, but not at once: the name of our end may be wanted again.
    await run('ip', ['link', 'delete', layout.iface]).catch(() => undefined);
    await run('ip', ['netns', 'delete', namespace]);
    forget();
  };
  try {
    await makePair(layout, namespace);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    ...layout,
    recreate: async () => {
      await run('ip', ['link', 'delete', layout.iface]);
      await makePair(layout, namespace);
    },
    lost: () => droppedBySender(layout.peer, namespace),
    listen: (port) => Receiver.open({ netns: layout.netns, address: layout.peerAddress, port }),
    close,
  };
}

/** The namespace's name claims its number, and with it the addresses: only one can create it. */
async function claimNamespace(): Promise<{ number: number; namespace: string }> {
  for (let attempt = 1; ; attempt++) {
    const number = randomInt(TESTBEDS);
    const namespace = `l3af-test-${hex(number)}`;
    try {
      await run('ip', ['netns', 'add', namespace]);
      return { number, namespace };
    } catch (error) {
      const taken = String(error).includes('File exists');
      if (!taken || attempt === ATTEMPTS) throw new Error('No network namespace can be made here', { cause: error });
    }
  }
}

type Layout = Pick<Testbed, 'iface' | 'peer' | 'netns' | 'address' | 'peerAddress'>;

function layoutOf(number: number, namespace: string, iface = `l3t${hex(number)}`): Layout {
  const base = NETWORK + 4 * number;
  return {
    iface,
    peer: 'peer0',
    netns: `/run/netns/${namespace}`,
    address: dotted(base + 1),
    peerAddress: dotted(base + 2),
  };
}

/** Both MAC addresses are set, so that each end knows the other's without asking. */
const OUR_MAC = '02:00:00:00:00:01';
const PEER_MAC = '02:00:00:00:00:02';

async function makePair({ iface, peer, netns, address, peerAddress }: Layout, namespace: string): Promise<void> {
  const peerEnd = ['peer', 'name', peer, 'address', PEER_MAC, 'netns', namespace];
  await run('ip', ['link', 'add', iface, 'address', OUR_MAC, 'type', 'veth', ...peerEnd]);
  await Promise.all([
    prepareEnd([], { device: iface, own: address, other: peerAddress, otherMac: PEER_MAC }),
    prepareEnd([`--net=${netns}`], { device: peer, own: peerAddress, other: address, otherMac: OUR_MAC }),
  ]);
}

/**
 * An interface must be silent before it comes up; what it may not have (IPv6, an offload, ethtool) needs no turning off.
 *
 * @param enter options of nsenter; none for this namespace
 */
async function prepareEnd(
  enter: readonly string[],
  { device, own, other, otherMac }: { device: string; own: string; other: string; otherMac: string },
): Promise<void> {
  const script = `
    echo 1 >/proc/sys/net/ipv6/conf/${device}/disable_ipv6
    for offload in tso gso gro; do ethtool -K ${device} $offload off; done
    set -e
    ip link set dev ${device} up
    ip address add ${own}/30 dev ${device}
    ip neighbour replace ${other} lladdr ${otherMac} nud permanent dev ${device}`;
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
  const [command, ...args] = [...(enter.length === 0 ? [] : ['nsenter', ...enter]), 'sh', '-c', script];
  await run(command ?? 'sh', args, { env });
}

/** veth_xmit in the kernel's drivers/net/veth.c counts what did not fit into the ring as dropped by the sending end. */
async function droppedBySender(device: string, namespace: string): Promise<number> {
  const { stdout } = await run('ip', ['-n', namespace, '-json', '-statistics', 'link', 'show', 'dev', device]);
  const [link] = JSON.parse(stdout) as [{ stats64: { tx: { dropped: number } } }];
  return link.stats64.tx.dropped;
}

function hex(number: number): string {
  return number.toString(16).padStart(4, '0');
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
}

export interface MountedBpffs {
  readonly path: string;
  unmount(): Promise<void>;
}

/** A bpffs that nobody else pins in. What is still pinned there goes with it. */
export async function mountBpffs(): Promise<MountedBpffs> {
  const path = await mkdtemp(join(tmpdir(), 'l3af-bpffs-'));
  const forget = atExit(() => {
    execFileSync('umount', [path]);
    rmdirSync(path);
  });
  try {
    await run('mount', ['-t', 'bpf', 'bpf', path]);
  } catch (cause) {
    forget();
    await rmdir(path);
    throw new Error('No bpffs can be mounted here', { cause });
  }
  return {
    path,
    unmount: async () => {
      await run('umount', [path]);
      forget();
      await rmdir(path);
    },
  };
}
