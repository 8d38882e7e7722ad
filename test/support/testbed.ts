import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync, rmdirSync } from 'node:fs';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { atExit } from './last-resort.js';
import { Receiver } from './receiver.js';
import { noteMade } from './this-run.js';
import { missing, run } from './tool.js';

/**
 * A veth pair: programs are attached to the end in this namespace, and packets are sent from the other end, in its own
 * namespace. Nothing else crosses the pair: IPv6 is off, and no address has to be resolved.
 */
export interface Testbed {
  /** Our end. */
  readonly iface: string;
  /** Name of the other end, within its namespace. */
  readonly peer: string;
  /**
   * Path of the namespace, for `nsenter --net=`. (`ip netns exec` mounts a new /sys, which hides every bpffs below it.)
   */
  readonly netns: string;
  /** IPv4 address of our end. */
  readonly address: string;
  readonly peerAddress: string;
  /** Deletes the pair and creates it again under the same names, like an interface whose driver is reloaded. */
  recreate(): Promise<void>;
  /**
   * Packets from the other end that the pair itself has dropped since it was created, because its ring was full: they
   * were sent, but no program could see them.
   */
  lost(): Promise<number>;
  /** Receives UDP datagrams at the other end. */
  listen(port: number): Promise<Receiver>;
  close(): Promise<void>;
}

/** 198.18.0.0/15 is for tests of networks (RFC 2544); each testbed uses four of its addresses. */
const NETWORK = (198 << 24) | (18 << 16);
const TESTBEDS = 2 ** 17 / 4;
const ATTEMPTS = 20;

/** @param iface name of our end; default: a free name */
export async function createTestbed(iface?: string): Promise<Testbed> {
  const { number, namespace } = await claimNamespace();
  const layout = layoutOf(number, namespace, iface);
  const forget = atExit(() => execFileSync('ip', ['netns', 'delete', namespace]));
  const close = async () => {
    // Deleting the namespace removes the pair, but not at once, and the name of our end may be needed again.
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

/**
 * The namespace's name reserves its number, and with it the addresses: only one process can create it. Tests in another
 * root have their own namespaces, so the interface must be free, too.
 */
async function claimNamespace(): Promise<{ number: number; namespace: string }> {
  for (let attempt = 1; ; attempt++) {
    const number = randomInt(TESTBEDS);
    const namespace = `l3af-test-${hex(number)}`;
    try {
      await run('ip', ['netns', 'add', namespace]);
      if (!existsSync(`/sys/class/net/${ifaceOf(number)}`)) {
        noteMade(namespace);
        return { number, namespace };
      }
      await run('ip', ['netns', 'delete', namespace]);
    } catch (error) {
      const taken = String(error).includes('File exists');
      if (!taken || attempt === ATTEMPTS) throw new Error('No network namespace can be made here', { cause: error });
    }
  }
}

type Layout = Pick<Testbed, 'iface' | 'peer' | 'netns' | 'address' | 'peerAddress'>;

function ifaceOf(number: number): string {
  return `l3t${hex(number)}`;
}

function layoutOf(number: number, namespace: string, iface = ifaceOf(number)): Layout {
  const base = NETWORK + 4 * number;
  return {
    iface,
    peer: 'peer0',
    netns: `/run/netns/${namespace}`,
    address: dotted(base + 1),
    peerAddress: dotted(base + 2),
  };
}

/** Both MAC addresses are set, so that each end knows the other's without ARP. */
const OUR_MAC = '02:00:00:00:00:01';
const PEER_MAC = '02:00:00:00:00:02';

async function makePair({ iface, peer, netns, address, peerAddress }: Layout, namespace: string): Promise<void> {
  noteMade(iface);
  const peerEnd = ['peer', 'name', peer, 'address', PEER_MAC, 'netns', namespace];
  await run('ip', ['link', 'add', iface, 'address', OUR_MAC, 'type', 'veth', ...peerEnd]);
  await Promise.all([
    prepareEnd([], { device: iface, own: address, other: peerAddress, otherMac: PEER_MAC }),
    prepareEnd([`--net=${netns}`], { device: peer, own: peerAddress, other: address, otherMac: OUR_MAC }),
  ]);
}

/**
 * An interface must be silent before it comes up, and must not merge packets. Without IPv6 there is nothing to turn
 * off.
 *
 * @param enter options of nsenter; none for this namespace
 */
async function prepareEnd(
  enter: readonly string[],
  { device, own, other, otherMac }: { device: string; own: string; other: string; otherMac: string },
): Promise<void> {
  const script = `
    [ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/${device}/disable_ipv6
    command -v ethtool >/dev/null || { echo '${missing('ethtool').message}' >&2; exit 1; }
    ethtool -K ${device} tso off gso off gro off
    ip link set dev ${device} up
    ip address add ${own}/30 dev ${device}
    ip neighbour replace ${other} lladdr ${otherMac} nud permanent dev ${device}`;
  const [command, ...args] = [...(enter.length === 0 ? [] : ['nsenter', ...enter]), 'sh', '-euc', script];
  await run(command ?? 'sh', args);
}

/**
 * veth_xmit in the kernel's drivers/net/veth.c counts packets that do not fit into the ring as dropped by the sending
 * end.
 */
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

/** A bpffs of our own. What is still pinned there is removed with it. */
export async function mountBpffs(): Promise<MountedBpffs> {
  const path = await mkdtemp(join(tmpdir(), 'l3af-bpffs-'));
  const forget = atExit(() => {
    execFileSync('umount', [path]);
    rmdirSync(path);
  });
  try {
    await run('mount', ['-t', 'bpf', '-o', 'mode=0700', 'bpf', path]);
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
