import { z } from 'zod';
import { DIFFERENCE_KINDS } from '../domain/difference.js';
import { DIRECTIONS } from '../domain/hook.js';
import { XDP_RUN_MODES } from '../domain/observed.js';
import { AgentError } from '../errors.js';
import { ACK_STATUSES } from './ack.js';
import { instant, parseMessage } from './reading.js';
import { hostDataSchema } from './snapshot.js';

/*
 * The read-only requests of the micro service. A request's body is JSON, and an empty body stands for {}. A request
 * that fails is answered with the headers Nats-Service-Error-Code and Nats-Service-Error and a body as refusal.ts has it.
 */

const direction = z.enum(DIRECTIONS);
/** Of a program, which may be a probe: with '' for interface and direction. */
const anyDirection = z.enum([...DIRECTIONS, '']);

const mode = z.exactOptional(z.enum(XDP_RUN_MODES)).describe('Where an attached XDP chain really runs');

const nothing = z.strictObject({}).describe('No parameters');

const statusReply = z
  .object({
    host: z.string(),
    version: z.string(),
    instance_id: z.string(),
    started_at: instant,
    ready: z.boolean().describe('Whether the agent takes commands: it has observed, adopted and repaired'),
    datapath: z.enum(['libbpf', 'memory']),
    queued: z.int().describe('Commands that wait, the running one included'),
    gen: z.exactOptional(z.int()).describe('Last generation applied'),
    last_command: z.exactOptional(
      z.object({
        id: z.string(),
        verb: z.string(),
        seq: z.int(),
        status: z.enum(ACK_STATUSES),
        finished_at: instant,
      }),
    ),
    hooks: z.array(
      z.object({
        iface: z.string(),
        direction,
        attached: z.boolean(),
        kind: z.exactOptional(z.enum(['xdp', 'tcx', 'clsact'])),
        mode,
        desired: z.int().describe('Enabled programs that are asked for'),
        running: z.int().describe('Programs that packets really pass, without the root'),
      }),
    ),
    probes: z
      .exactOptional(
        z.object({
          desired: z.int().describe('Enabled probes that are asked for'),
          running: z.int().describe('Those of them that are attached'),
        }),
      )
      .describe('The probes of the host; absent for none'),
  })
  .describe('How the agent and its host are');

const programsRequest = z.strictObject({
  iface: z.exactOptional(z.string()).describe('Only the programs of this interface'),
});

const runningProgram = z.object({
  iface: z.string(),
  direction: anyDirection,
  name: z.string(),
  version: z.string(),
  seq_id: z.int(),
  admin_status: z.enum(['enabled', 'disabled']),
  running: z.boolean(),
  mode,
  prog_id: z.exactOptional(z.int()),
  map_name: z.string().describe("The slot, '' without one"),
});

const programsReply = z
  .object({ host: z.string(), programs: z.array(runningProgram) })
  .describe('Every desired program and whether it runs, by interface, direction and position');

/** The longest that runs are counted for one answer. */
export const MAX_STATS_MS = 60_000;

const chainsRequest = z.strictObject({
  iface: z.exactOptional(z.string()).describe('Only the chains of this interface'),
  stats_ms: z
    .exactOptional(z.int().min(1).max(MAX_STATS_MS))
    .describe('Have the kernel count the runs of programs for so long, and answer after that'),
});

const runs = z.object({
  count: z.int().describe('Runs: one for each packet'),
  time_ns: z.int().describe('Time of all runs together, of all CPUs, what was reached by tail calls included'),
});

const probeFunction = z.object({
  name: z.string(),
  prog_id: z.exactOptional(z.int()).describe('Absent while the program is not pinned'),
  link_id: z.exactOptional(z.int()).describe('Absent: it is attached to nothing'),
});

const strand = z
  .object({
    attachment: z.exactOptional(
      z.object({
        kind: z.enum(['xdp', 'tcx', 'clsact']),
        mode,
        link_id: z.int().describe('0 for a clsact filter'),
        attached: z.boolean().describe('False for a link that is still pinned, and that packets do not meet'),
      }),
    ),
    members: z
      .array(
        z.object({
          name: z.string(),
          version: z.string().describe('With underscores for dots where no desired program says how it is written'),
          root: z.boolean(),
          prog_id: z.int(),
          slot: z.exactOptional(
            z.object({
              map_id: z.int(),
              next: z.int().nullable().describe('Id of the program that it names; null: empty'),
            }),
          ),
          probes: z.exactOptional(z.array(probeFunction)).describe('Those in its object, which come and go with it'),
        }),
      )
      .describe('Joined by their slots, in this order'),
    runs: z.exactOptional(runs).describe('Of the first member, which the kernel runs itself, since it was loaded'),
    recent_runs: z.exactOptional(runs).describe('Those of them within window_ms'),
  })
  .describe('What hangs at one link: the whole chain, unless programs without slot are in it');

const difference = z.object({ kind: z.enum(DIFFERENCE_KINDS), programs: z.array(z.string()), text: z.string() });

const adminStatus = z.enum(['enabled', 'disabled']);

const hostProbes = z
  .object({
    standing: z
      .array(
        z.object({
          name: z.string(),
          version: z.string().describe('With underscores for dots where no desired probe says how it is written'),
          functions: z.array(probeFunction).describe('The programs of the object that are probes'),
        }),
      )
      .describe('What is loaded'),
    desired: z.array(z.object({ name: z.string(), version: z.string(), admin_status: adminStatus })),
    differences: z.array(difference),
  })
  .describe('The probes of the host, which hang at no interface');

const chainsReply = z
  .object({
    host: z.string(),
    known: z.boolean().describe('Whether what is desired is known; else nothing can differ from it'),
    window_ms: z.exactOptional(z.number()).describe('How long runs were counted for this answer'),
    hooks: z.array(
      z.object({
        iface: z.string(),
        direction,
        interface_present: z.boolean(),
        strands: z.array(strand).describe('What packets pass, in this order; or would, if it were attached'),
        desired: z.array(
          z.object({
            name: z.string(),
            version: z.string(),
            seq_id: z.int(),
            admin_status: adminStatus,
          }),
        ),
        differences: z.array(difference),
      }),
    ),
    probes: z.exactOptional(hostProbes).describe('Absent where there are none, and for one interface'),
  })
  .describe('The chains as the kernel has them, and how they differ from what is desired');

const configReply = z
  .array(z.record(z.string(), z.unknown()))
  .describe('The desired state as a deploy payload: sent as a deploy, it changes nothing');

const healthReply = z
  .object({
    host: z.string(),
    healthy: z.boolean(),
    checks: z.array(z.object({ name: z.string(), ok: z.boolean(), message: z.exactOptional(z.string()) })),
  })
  .describe('Whether everything desired runs, and what is wrong where it does not');

const planRequest = z.strictObject({
  verb: z.enum(['deploy', 'add', 'delete']),
  payload: z.unknown().describe("The command's payload"),
});

const stepSchema = z.looseObject({ op: z.string(), text: z.string().describe('The step in words') });

const planReply = z
  .object({
    host: z.string(),
    changes: z.boolean().describe('Whether the command would do anything'),
    reasons: z.array(z.string()).describe('How each hook would change, and why so'),
    prepare: z
      .array(stepSchema)
      .describe('Done beforehand; packets do not notice. Tried for this answer, and taken back'),
    commit: z.array(stepSchema).describe('What packets notice, and then the companions'),
    cleanup: z.array(stepSchema),
    outcomes: z.array(
      z.object({
        iface: z.string(),
        direction: anyDirection,
        name: z.string(),
        version: z.string(),
        result: z.string(),
      }),
    ),
  })
  .describe('What the command would do now; everything was loaded through the verifier, and nothing attached');

/** Request and reply of every verb. */
export const REQUESTS = {
  status: { request: nothing, reply: statusReply },
  programs: { request: programsRequest, reply: programsReply },
  chains: { request: chainsRequest, reply: chainsReply },
  state: { request: nothing, reply: hostDataSchema },
  config: { request: nothing, reply: configReply },
  health: { request: nothing, reply: healthReply },
  plan: { request: planRequest, reply: planReply },
} as const;

export type RequestVerb = keyof typeof REQUESTS;
export type RequestOf<V extends RequestVerb> = z.infer<(typeof REQUESTS)[V]['request']>;
export type ReplyOf<V extends RequestVerb> = z.infer<(typeof REQUESTS)[V]['reply']>;

export const REQUEST_VERBS = Object.keys(REQUESTS) as readonly RequestVerb[];

/**
 * Reads the parameters of a request; absent ones are none.
 *
 * @throws AgentError INVALID_FIELD with the place that is wrong
 */
export function parseRequest<V extends RequestVerb>(verb: V, parameters: unknown): RequestOf<V> {
  const result = REQUESTS[verb].request.safeParse(parameters ?? {});
  if (result.success) return result.data as RequestOf<V>;
  const path = result.error.issues[0]?.path.join('.') ?? '';
  const place = path === '' ? 'an object with known fields only' : `correct at "${path}"`;
  throw new AgentError('INVALID_FIELD', `Expected the parameters of ${verb} to be ${place}`, { path });
}

/**
 * Reads an agent's answer.
 *
 * @throws AgentError INVALID_JSON or INVALID_FIELD when it is not what the verb answers
 */
export function parseReply<V extends RequestVerb>(verb: V, body: Uint8Array): ReplyOf<V> {
  const schema = REQUESTS[verb].reply as unknown as z.ZodType<ReplyOf<V>>;
  return parseMessage(`answer to ${verb}`, schema, body);
}
