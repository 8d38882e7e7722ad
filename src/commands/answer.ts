import type { Delivery } from '../bus/delivery.js';
import type { AdmissionRefusal } from '../domain/admission.js';
import type { Command } from '../domain/command.js';
import { hookFields, sameHook, TRACING } from '../domain/hook.js';
import { type Fault, faultsOf } from '../errors.js';
import type { Acknowledgement, AckProgram, AckStatus } from '../messages/ack.js';
import { shortened } from '../messages/shorten.js';
import { HEADERS } from '../messages/subjects.js';
import type { Report, ReportedOutcome } from '../reconcile/reconcile.js';
import type { CommandKey, Finish } from '../store/journal.js';

/** The parts of an acknowledgement that do not depend on the outcome of the command. */
export interface Receipt {
  readonly host: string;
  readonly delivery: Pick<Delivery, 'id' | 'verb' | 'seq'>;
  readonly gen: number | undefined;
  readonly receivedAt: Date;
}

type AckContent = Pick<Acknowledgement, 'status'> &
  Partial<Pick<Acknowledgement, 'code' | 'message' | 'errors' | 'programs' | 'undone'>>;

/** For a command that was refused before anything was planned. */
export function answerRejected(receipt: Receipt, error: unknown): Acknowledgement {
  return withFaults(receipt, 'rejected', faultsOf(error));
}

/** For a command that may not run because of its age or its place in the stream. */
export function answerRefused(receipt: Receipt, { status, code, message }: AdmissionRefusal): Acknowledgement {
  return answer(receipt, { status, code, message });
}

/** For a command whose effect is included in that of a later one. */
export function answerFolded(receipt: Receipt, by: string): Acknowledgement {
  const message = `Replayed together with later commands; its effect is included in that of ${by}`;
  return answer(receipt, { status: 'superseded', code: 'SUPERSEDED', message });
}

/** For a command on which the agent has died too often. */
export function answerQuarantined(receipt: Receipt, attempts: number): Acknowledgement {
  const message = `The agent died on this command ${attempts} times; it is stored as a dead letter and is not tried again`;
  return answer(receipt, {
    status: 'failed',
    code: 'QUARANTINED',
    message,
    errors: [{ code: 'QUARANTINED', message }],
  });
}

/** For a command that ran. Leftovers are listed, whether it succeeded or not. */
export function answerReported(receipt: Receipt, command: Command, report: Report): Acknowledgement {
  const programs = [...report.outcomes.map(programOf), ...absentTargets(command, report.outcomes)];
  const { status, leftovers } = report;
  if (status !== 'failed') {
    const errors = leftovers.map((message): Fault => ({ code: 'LEFTOVER', message }));
    const left = leftovers.length === 0 ? [] : [`Done, but not everything was removed: ${leftovers.join('; ')}`];
    const message = [...left, ...report.notes].join('; ');
    return answer(receipt, { status, ...(message !== '' && { message, errors }), programs });
  }
  const left = leftovers.map((message): Fault => ({ code: 'LEFTOVER', message: `Not rolled back: ${message}` }));
  return {
    ...withFaults(receipt, 'failed', [...report.faults, ...left]),
    programs,
    ...(report.undone !== undefined && { undone: report.undone }),
  };
}

/** For a replayed command that could not be applied for now. What it requests becomes desired anyway. */
export function answerPostponed(receipt: Receipt, command: Command, report: Report): Acknowledgement {
  const reported = answerReported(receipt, command, report);
  return { ...reported, message: `${reported.message}; it stays desired and is tried again until it runs` };
}

/** For a command that cannot be applied on this host, which was found before anything was planned. */
export function answerFailed(receipt: Receipt, error: unknown): Acknowledgement {
  return { ...withFaults(receipt, 'failed', faultsOf(error)), undone: true };
}

/** What the journal records with an answer, including its entry in the outbox. */
export function finishOf(
  key: CommandKey,
  ack: Acknowledgement,
  { hostName, ackSubject }: { readonly hostName: string; readonly ackSubject: string },
): Finish {
  const outbox = {
    // Unique over all hosts. It is also unique in a stream that was put back and uses its sequences a second time.
    id: `${hostName}:${ack.id}:${key.storedAt}`,
    subject: ackSubject,
    headers: { [HEADERS.commandId]: ack.id },
    body: JSON.stringify(shortened(ack, MAX_ANSWER_BYTES)),
  };
  return { key, verb: ack.verb, status: ack.status, outbox };
}

/** Half of a NATS server's default limit, in bytes. If a server allows less, the outbox handles it. */
const MAX_ANSWER_BYTES = 512 * 1024;

function withFaults(receipt: Receipt, status: AckStatus, faults: readonly Fault[]): Acknowledgement {
  const [first] = faults;
  const more = faults.length > 1 ? ` (and ${faults.length - 1} more)` : '';
  return answer(receipt, {
    status,
    ...(first !== undefined && { code: first.code, message: `${first.message}${more}` }),
    errors: [...faults],
  });
}

function answer(receipt: Receipt, verdict: AckContent): Acknowledgement {
  const { host, delivery, gen, receivedAt } = receipt;
  const finishedAt = new Date();
  return {
    id: delivery.id,
    host,
    verb: delivery.verb,
    ...(gen !== undefined && { gen }),
    seq: delivery.seq,
    errors: [],
    programs: [],
    ...verdict,
    received_at: receivedAt.toISOString(),
    finished_at: finishedAt.toISOString(),
    duration_ms: finishedAt.getTime() - receivedAt.getTime(),
  };
}

function programOf(outcome: ReportedOutcome): AckProgram {
  const { hook, name, version, result, programId, message } = outcome;
  return {
    ...hookFields(hook),
    name,
    version,
    ...(programId !== undefined && { prog_id: programId }),
    result,
    ...(message !== undefined && { message }),
  };
}

/** Deleting a name that does not exist is no error. It is reported as unchanged. */
function absentTargets(command: Command, outcomes: readonly ReportedOutcome[]): AckProgram[] {
  if (command.verb !== 'delete') return [];
  const probes = (command.probes ?? []).map((name) => ({ hook: TRACING, names: [name] }));
  return [...command.targets, ...probes].flatMap(({ hook, names }) =>
    names
      .filter((name) => !outcomes.some((outcome) => outcome.name === name && sameHook(outcome.hook, hook)))
      .map((name) => ({
        ...hookFields(hook),
        name,
        version: '',
        result: 'unchanged' as const,
        message: 'No program of this name was running',
      })),
  );
}
