import * as z from 'zod';
import { VERBS } from '../domain/command.js';
import { DIFFERENCE_KINDS } from '../domain/difference.js';
import { ATTACH_POINT_NAMES } from '../domain/hook.js';
import { ATTACHMENT_KINDS, XDP_RUN_MODES } from '../domain/observed.js';
import { AgentError } from '../errors.js';
import { ACK_STATUSES } from './ack.js';
import { instant, parseMessage } from './reading.js';
import { hostDataSchema } from './snapshot.js';

/*
 * The read-only requests of the micro service. A request's body is JSON, and an empty body means {}. A failed request
 * is answered with the headers Nats-Service-Error-Code and Nats-Service-Error, and a body as in refusal.ts.
 */

const direction = z.enum(ATTACH_POINT_NAMES);
/** The direction of a program. '' for a probe, which has no interface and no direction. */
const anyDirection = z.enum([...ATTACH_POINT_NAMES, '']);

const mode = z.exactOptional(z.enum(XDP_RUN_MODES)).describe('Where an attached XDP chain actually runs');

const foreign = z
  .exactOptional(
    z.array(
      z.object({
        prog_id: z.int().describe('0 for a filter that is no BPF program'),
        name: z.string(),
        runs: z.enum(['before', 'behind']).describe('In relation to the chain'),
        text: z.string(),
      }),
    ),
  )
  .describe('What else is at the hook and can keep packets from the chain, or the chain from it. Absent for nothing');

const nothing = z.strictObject({}).describe('No parameters');

const statusReply = z
  .object({
    host: z.string(),
    version: z.string(),
    instance_id: z.string(),
    started_at: instant,
    ready: z
      .boolean()
      .describe(
        'Whether the agent accepts commands, after it has observed, adopted and repaired what it found. False while it cannot take any from their stream',
      ),
    datapath: z.enum(['libbpf', 'memory']),
    queued: z.int().describe('Waiting commands, including the running one'),
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
        kind: z.exactOptional(z.enum(ATTACHMENT_KINDS)),
        mode,
        desired: z.int().describe('Enabled programs that are desired'),
        running: z.int().describe('Programs that packets actually pass, without the root'),
        foreign,
      }),
    ),
    probes: z
      .exactOptional(
        z.object({
          desired: z.int().describe('Enabled probes that are desired'),
          running: z.int().describe('Those of them that are attached'),
        }),
      )
      .describe('The probes of the host; absent if there are none'),
    companions: z
      .exactOptional(
        z.array(
          z.object({
            iface: z.string(),
            direction: anyDirection,
            name: z.string().describe('Name of the program'),
            condition: z.enum(['waiting', 'given-up']),
            restarts: z.int().describe('How often it was started again'),
          }),
        ),
      )
      .describe('The companions that should run and do not; absent if there are none'),
    troubles: z
      .exactOptional(
        z.array(
          z.object({
            task: z
              .enum(['consuming', 'storing', 'publishing'])
              .describe('Taking commands, storing answers and state, or publishing metrics'),
            message: z.string().describe('Why, and what can be done'),
          }),
        ),
      )
      .describe('What NATS does not let the agent do although there is a connection; absent if there is nothing'),
  })
  .describe('The state of the agent and its host');

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
  map_name: z.string().describe("The slot; '' without one"),
});

const programsReply = z
  .object({ host: z.string(), programs: z.array(runningProgram) })
  .describe('Every desired program and whether it runs, by interface, direction and position');

/** The longest time for which runs are counted for one answer. */
export const MAX_STATS_MS = 60_000;

const chainsRequest = z.strictObject({
  iface: z.exactOptional(z.string()).describe('Only the chains of this interface'),
  stats_ms: z
    .exactOptional(z.int().min(1).max(MAX_STATS_MS))
    .describe('How long the kernel counts the runs of programs before the request is answered'),
});

const runs = z.object({
  count: z.int().describe('Runs: one for each packet'),
  time_ns: z
    .int()
    .describe('Total time of all runs on all CPUs, including the programs that were reached by tail calls'),
});

const probeFunction = z.object({
  name: z.string(),
  prog_id: z.exactOptional(z.int()).describe('Absent while the program is not pinned'),
  link_id: z.exactOptional(z.int()).describe('Absent if it is not attached'),
});

const subchain = z
  .object({
    attachment: z.exactOptional(
      z.object({
        kind: z.enum(ATTACHMENT_KINDS),
        mode,
        link_id: z.int().describe('0 for a clsact filter'),
        attached: z.boolean().describe('False for a link that is still pinned but no longer attached'),
      }),
    ),
    members: z
      .array(
        z.object({
          name: z.string(),
          version: z.string().describe('With underscores instead of dots if no desired program gives its spelling'),
          root: z.boolean(),
          prog_id: z.int(),
          slot: z.exactOptional(
            z.object({
              map_id: z.int(),
              next: z.int().nullable().describe('Id of the program that it contains; null if empty'),
            }),
          ),
          probes: z
            .exactOptional(z.array(probeFunction))
            .describe('The probes in its object, which are attached and removed with it'),
        }),
      )
      .describe('Joined by their slots, in this order'),
    runs: z
      .exactOptional(runs)
      .describe('Runs of the first member since it was loaded. Only this one is run by the kernel itself'),
    recent_runs: z.exactOptional(runs).describe('The runs within window_ms'),
  })
  .describe('The programs at one link: the whole chain, unless it has programs without a slot');

const difference = z.object({ kind: z.enum(DIFFERENCE_KINDS), programs: z.array(z.string()), text: z.string() });

const adminStatus = z.enum(['enabled', 'disabled']);

const hostProbes = z
  .object({
    standing: z
      .array(
        z.object({
          name: z.string(),
          version: z.string().describe('With underscores instead of dots if no desired probe gives its spelling'),
          functions: z.array(probeFunction).describe('The programs of the object that are probes'),
        }),
      )
      .describe('The loaded probes'),
    desired: z.array(z.object({ name: z.string(), version: z.string(), admin_status: adminStatus })),
    differences: z.array(difference),
  })
  .describe('The probes of the host, which are not attached to an interface');

const chainsReply = z
  .object({
    host: z.string(),
    known: z.boolean().describe('Whether the desired state is known. If not, no differences are reported'),
    window_ms: z.exactOptional(z.number()).describe('How long runs were counted for this answer'),
    hooks: z.array(
      z.object({
        iface: z.string(),
        direction,
        interface_present: z.boolean(),
        strands: z
          .array(subchain)
          .describe('The strands in the order in which packets pass them, or would pass them if they were attached'),
        desired: z.array(
          z.object({
            name: z.string(),
            version: z.string(),
            seq_id: z.int(),
            admin_status: adminStatus,
          }),
        ),
        differences: z.array(difference),
        foreign,
      }),
    ),
    probes: z.exactOptional(hostProbes).describe('Absent if there are none, or if one interface was requested'),
  })
  .describe('The chains as they are in the kernel, and how they differ from the desired state');

const configReply = z
  .array(z.record(z.string(), z.unknown()))
  .describe('The desired state as a deploy payload. Sending it as a deploy changes nothing');

const healthReply = z
  .object({
    host: z.string(),
    healthy: z.boolean(),
    checks: z.array(z.object({ name: z.string(), ok: z.boolean(), message: z.exactOptional(z.string()) })),
  })
  .describe('Whether everything desired runs, and what is wrong if not');

const planRequest = z.strictObject({
  verb: z.enum(VERBS),
  payload: z.unknown().describe("The command's payload"),
});

const stepSchema = z.looseObject({ op: z.string(), text: z.string().describe('The step in words') });

const planReply = z
  .object({
    host: z.string(),
    changes: z.boolean().describe('Whether the command would do anything'),
    reasons: z.array(z.string()).describe('How each hook would change, and why'),
    notes: z
      .exactOptional(z.array(z.string()))
      .describe(
        'What is not ours and stands before or behind the chains, and programs of objects that the agent does not attach. Absent for nothing',
      ),
    prepare: z
      .array(stepSchema)
      .describe('Steps that packets do not notice. They were executed for this answer and rolled back'),
    commit: z.array(stepSchema).describe('Steps that packets notice, and then those of the companions'),
    cleanup: z.array(stepSchema),
    outcomes: z.array(
      z.object({
        iface: z.string(),
        direction: anyDirection,
        name: z.string(),
        version: z.string(),
        result: z.string(),
        message: z.string().optional(),
      }),
    ),
  })
  .describe('What the command would do now. Everything was loaded through the verifier, and nothing was attached');

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
 * Reads the parameters of a request. Absent parameters mean none.
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
 * @throws AgentError INVALID_JSON or INVALID_FIELD if it is not an answer to the verb
 */
export function parseReply<V extends RequestVerb>(verb: V, body: Uint8Array): ReplyOf<V> {
  const schema = REQUESTS[verb].reply as unknown as z.ZodType<ReplyOf<V>>;
  return parseMessage(`answer to ${verb}`, schema, body);
}
