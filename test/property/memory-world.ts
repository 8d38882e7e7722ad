import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Packages } from '../../src/apply/executor.js';
import { Lane } from '../../src/apply/lane.js';
import { Agent } from '../../src/commands/agent.js';
import type { CommandBus } from '../../src/commands/command-bus.js';
import { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import { type AttachPointName, targetName } from '../../src/domain/hook.js';
import type { Acknowledgement } from '../../src/messages/ack.js';
import { PackageCache } from '../../src/packages/cache.js';
import { Host } from '../../src/reconcile/host.js';
import { Journal } from '../../src/store/journal.js';
import { createLogger } from '../../src/telemetry/log.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { answeringBus } from '../support/answering-bus.js';
import { noCompanions, planContext, restartPolicy } from '../support/chains.js';
import { buildRepository } from '../support/packages.js';
import { DyingDisk } from '../unit/store/dying-disk.js';
import { variantPackages } from './codes.js';
import { breakIn } from './memory-damage.js';
import { listOf, type Seen } from './seen.js';
import type { World } from './sequence.js';

const BPFFS = '/bpffs';
const HOST = 'web1';
const IFACES = ['veth0', 'veth1'] as const;
const PLATFORM = 'bookworm';
const STREAM_CREATED = '2026-01-01T00:00:00Z';

export interface Scratch {
  readonly repository: string;
  readonly packages: Packages;
  close(): Promise<void>;
}

/** Shared by all worlds of a test: a repository and a cache of its packages. */
export async function makeScratch(): Promise<Scratch> {
  const dir = await mkdtemp(join(tmpdir(), 'l3af-property-'));
  await buildRepository(join(dir, 'repository'), variantPackages(PLATFORM));
  const repository = `file://${join(dir, 'repository')}`;
  const cache = new PackageCache({ dir: join(dir, 'packages'), repoUrl: repository, platform: PLATFORM });
  await cache.open();
  const close = async () => {
    await cache.close();
    await rm(dir, { recursive: true, force: true });
  };
  return { repository, packages: remembering(cache), close };
}

/** Packages do not change here, so each is checked only once and not for each of thousands of commands. */
function remembering(packages: Packages): Packages {
  const paths = new Map<string, Promise<string>>();
  return {
    ensure: async () => undefined,
    objectPath: (ref, objectFile) => {
      const { name, version, artifact, repoUrl } = ref;
      const key = JSON.stringify([name, version, artifact, repoUrl, objectFile]);
      const path = paths.get(key) ?? packages.objectPath(ref, objectFile);
      paths.set(key, path);
      return path;
    },
  };
}

/** An agent without a broker, a disk for its journal, and a kernel. */
export async function openMemoryWorld(scratch: Scratch): Promise<World & { close(): Promise<void> }> {
  const interfaces = new Map<string, number>(IFACES.map((iface, index) => [iface, index + 2]));
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces });
  const journal = new Journal({ dir: '/state', files: new DyingDisk() });
  await journal.open();
  const answers: Acknowledgement[] = [];
  const bus: CommandBus = {
    ...answeringBus(journal, STREAM_CREATED, (answer) => answers.push(answer)),
    position: async () => ({ created: STREAM_CREATED, lastSeq: answers.length, consumerFloor: 0 }),
  };
  const metrics = new Metrics(HOST);
  const log = createLogger({ level: 'silent', host: HOST });
  const lane = new Lane();
  const host = new Host({
    tools: { datapath, packages: scratch.packages, companions: noCompanions },
    context: planContext(BPFFS),
    metrics,
    restartPolicy,
  });
  const shared = {
    hostName: HOST,
    ackSubject: `l3af.ack.${HOST}`,
    rules: { chaining: true, ordered: new Set<AttachPointName>(['ingress', 'egress']) },
    serverNow: Date.now,
    signal: new AbortController().signal,
    stands: async () => true,
  };
  const agent = new Agent({ ...shared, journal, host, bus, metrics, log, lane });

  const look = async (): Promise<Seen> => seenIn(await datapath.observe());
  let seq = 0;
  return {
    hostName: HOST,
    repository: scratch.repository,
    verifies: false,
    ifaces: IFACES,
    async send(verb, body) {
      seq += 1;
      const storedAt = new Date(Date.UTC(2026, 0, 1) + seq).toISOString();
      const headers = { gen: undefined, prevGen: undefined, expires: undefined };
      await agent.handle({ id: `c${seq}`, verb, body, seq, storedAt, streamCreated: STREAM_CREATED, ...headers });
      const answer = answers.find(({ id }) => id === `c${seq}`);
      if (answer === undefined) throw new Error(`c${seq} was not answered`);
      return answer;
    },
    look,
    async read(pin, key) {
      return datapath.readMap(`${BPFFS}/${pin}`, key);
    },
    probe: async () => [],
    damage: (kind, place, which, seen) => breakIn({ datapath, bpffs: BPFFS, interfaces }, kind, place, which, seen),
    async mend(isMended) {
      await lane.run((turn) => host.repair(turn, journal.desired!, log));
      await isMended();
    },
    async close() {
      await journal.close();
    },
  };
}

type Observed = Awaited<ReturnType<MemoryDatapath['observe']>>;

function seenIn({ hooks, publicMaps }: Observed): Seen {
  const below = (path: string) => path.slice(BPFFS.length + 1);
  return {
    programs: hooks.flatMap(({ hook, loadedPrograms }) =>
      loadedPrograms.map(({ name, versionSegment, dir, programId, slot, maps }) => ({
        iface: targetName(hook),
        list: listOf(hook.direction),
        name,
        version: versionSegment,
        dir: below(dir),
        id: programId,
        slot,
        maps: new Map(maps.map((map) => [map.name, map.id])),
      })),
    ),
    links: hooks.flatMap(({ hook, attachments }) =>
      attachments.map(({ linkPin, programId, attached }) => ({
        iface: targetName(hook),
        list: listOf(hook.direction),
        pin: below(linkPin),
        programId,
        attached,
      })),
    ),
    names: new Map([...publicMaps].map(([path, id]) => [below(path), id])),
  };
}
