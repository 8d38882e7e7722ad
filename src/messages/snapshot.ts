import * as z from 'zod';
import { AGGREGATORS } from '../domain/aggregate.js';
import { ATTACH_POINTS } from '../domain/attach-points/registry.js';
import { COMPANION_STATES } from '../domain/companion.js';
import { XDP_RUN_MODES } from '../domain/observed.js';

/*
 * The snapshot, with the names of l3afd's models (L3AFMetaData and L3AFALLHOSTDATA), which consumers of its state file
 * know. The numbers are the kernel's own at the time of the snapshot.
 */

const metricsMapSchema = z.object({
  MapName: z.string(),
  Key: z.union([z.number(), z.string()]),
  Values: z
    .array(z.number())
    .describe(
      'The samples of the window, oldest first. For rates: the increase per second from one sample to the next',
    ),
  Aggregator: z.enum(AGGREGATORS),
  LastValue: z.number().describe('The newest sample'),
});

const metaDataSchema = z
  .object({
    Program: z.record(z.string(), z.unknown()).describe('The program as in the command; a root has only names'),
    FilePath: z.string().describe('Folder in bpffs where the program, its slot and its maps are pinned'),
    RestartCount: z
      .int()
      .describe('How often its companion was restarted since it last ran for a whole companion_restart_window'),
    CompanionState: z
      .exactOptional(z.enum(COMPANION_STATES))
      .describe(
        'State of its companion. ended: the next check handles it; waiting: it will be started again; given-up: it will not. Not a field of l3afd',
      ),
    PrevMapNamePath: z.string().describe("Pin of the predecessor's slot; '' for the first program"),
    MapNamePath: z.string().describe("Pin of the program's own slot; '' without one"),
    ProgID: z.int().describe("The kernel's program id; 0 while it does not run"),
    BpfMaps: z.array(z.string()).describe('Names of the maps that map_args fills'),
    MetricsBpfMaps: z
      .record(z.string(), metricsMapSchema)
      .describe('By map name, key and aggregator, joined into one string'),
    ProgMapCollection: z.object({ Programs: z.array(z.string()), Maps: z.array(z.string()) }),
    ProgMapID: z.int().describe("Map id of the program's own slot; 0 without one"),
    PrevProgMapID: z.int().describe("Map id of the predecessor's slot; 0 for the first program"),
    Link: z.boolean().describe('Whether a pinned link holds this program at its hook'),
    XdpMode: z
      .exactOptional(z.enum(XDP_RUN_MODES))
      .describe('Where the XDP chain of the program actually runs; not a field of l3afd'),
  })
  .meta({ id: 'L3AFMetaData', description: 'One program that is desired at a hook, or the root of its chain' });

export type L3AFMetaData = z.infer<typeof metaDataSchema>;

const chainsSchema = z.record(z.string(), z.array(metaDataSchema)).describe('By interface; the root first');

/** One list for each attach point. */
const chainLists = Object.fromEntries(
  Object.values(ATTACH_POINTS).map(({ snapshotList }) => [snapshotList, chainsSchema]),
) as Record<(typeof ATTACH_POINTS)[keyof typeof ATTACH_POINTS]['snapshotList'], typeof chainsSchema>;

const metricSchema = z.object({
  MetricName: z.string(),
  Labels: z.array(z.object({ Name: z.string(), Value: z.string() })),
  Value: z.number(),
  Type: z.int().describe('0 for a counter, 1 for a gauge'),
});

export const hostDataSchema = z
  .object({
    HostName: z.string(),
    HostInterfaces: z.record(z.string(), z.boolean()).describe('The interfaces that the host has now'),
    ...chainLists,
    ProbesBpfs: z.array(metaDataSchema),
    Ifaces: z.record(z.string(), z.string()).describe('The interfaces with programs, each under its own name'),
    AllStats: z.array(metricSchema),
  })
  .meta({ title: 'L3AFALLHOSTDATA', description: 'Everything that a host runs, as last observed' });

export type L3AFALLHOSTDATA = z.infer<typeof hostDataSchema>;
