import type { Fault } from '../errors.js';
import type { Acknowledgement } from '../messages/ack.js';
import type { RequestRefusal } from '../messages/refusal.js';
import type { ReplyOf } from '../messages/requests.js';
import { harmless, type Style } from './style.js';
import { aligned, indent, table } from './table.js';

/* Output for people. Every function returns lines. Scripts use `-o json` instead. */

const PROGRAM_COLUMNS = [
  { title: 'IFACE' },
  { title: 'DIRECTION' },
  { title: 'PROGRAM' },
  { title: 'VERSION' },
  { title: 'RESULT' },
  { title: 'PROG ID', align: 'right' },
  { title: 'MESSAGE' },
] as const;

/** A whole acknowledgement: its outcome, its faults with their details, and its programs. */
export function renderAcknowledgement(acknowledgement: Acknowledgement, style: Style, width?: number): string[] {
  const { verb, id, host, status, code, message, errors, programs, undone, duration_ms: ms } = acknowledgement;
  const outcome = `${style('bold', verb)} ${id} on ${host}: ${status} in ${Math.round(ms)} ms`;
  const rows = programs.map((program) => [
    ...placeOf(program),
    program.name,
    program.version,
    program.result,
    program.prog_id === undefined ? '' : String(program.prog_id),
    program.message === message ? '' : harmless(program.message ?? ''),
  ]);
  return [
    `${mark(status, style)} ${outcome}`,
    ...renderFaults({ code, message, errors }, style),
    ...(undone === undefined ? [] : indent([undoneText(undone, style)])),
    ...(rows.length === 0 ? [] : indent(table(PROGRAM_COLUMNS, rows, style, within(width)))),
  ];
}

export interface RefusedPlan extends RequestRefusal {
  readonly verb: string;
  readonly host: string;
}

/** Why a plan was refused, in the form that the command itself would fail with. */
export function renderRefusal({ verb, host, ...refusal }: RefusedPlan, style: Style): string[] {
  return [`${mark('failed', style)} ${style('bold', verb)} would fail on ${host}`, ...renderFaults(refusal, style)];
}

/** Interface and direction; probes have neither. */
function placeOf({ iface, direction }: { readonly iface: string; readonly direction: string }): [string, string] {
  return direction === '' ? ['-', 'probe'] : [iface, direction];
}

interface Failing {
  readonly code?: string | undefined;
  readonly message?: string | undefined;
  readonly errors?: readonly Fault[] | undefined;
}

function renderFaults({ code, message, errors = [] }: Failing, style: Style): string[] {
  const reason = message === undefined ? [] : [harmless(code === undefined ? message : `${code}: ${message}`)];
  return indent([...reason, ...errors.flatMap((fault) => renderFault(fault, message, style))]);
}

/**
 * A fault, without its sentence where the line above already says it. A fault with a path keeps its sentence if the
 * line above joins several.
 */
function renderFault({ path, code, message, detail }: Fault, told: string | undefined, style: Style): string[] {
  const place = path === undefined ? [] : [style('cyan', harmless(path))];
  const isTold = message === told || (path === undefined && told?.includes(message) === true);
  const sentence = isTold ? [] : [`${code}: ${harmless(message)}`];
  const beneath = detail === undefined ? [] : harmless(detail).trimEnd().split('\n');
  return [...place, ...indent(sentence), ...indent(beneath, 4).map((line) => style('dim', line))];
}

/** The width that is left for indented lines. */
function within(width: number | undefined): number | undefined {
  return width === undefined ? undefined : width - 2;
}

function undoneText(undone: boolean, style: Style): string {
  return undone
    ? 'The host is as it was before the command.'
    : style('red', 'Not everything could be rolled back: check the host with l3afctl show.');
}

const MARKS = {
  applied: ['green', '✔'],
  unchanged: ['green', '='],
  failed: ['red', '✖'],
  rejected: ['red', '✖'],
  expired: ['yellow', '✖'],
  superseded: ['yellow', '»'],
} as const satisfies Record<Acknowledgement['status'], readonly [string, string]>;

function mark(status: Acknowledgement['status'], style: Style): string {
  const [colour, sign] = MARKS[status];
  return style(colour, sign);
}

const ACK_COLUMNS = [
  { title: '' },
  { title: 'FINISHED' },
  { title: 'SEQ', align: 'right' },
  { title: 'GEN', align: 'right' },
  { title: 'VERB' },
  { title: 'STATUS' },
  { title: 'CODE' },
  { title: 'MS', align: 'right' },
  { title: 'ID' },
] as const;

/** Acknowledgements, one per line. */
export function renderAcknowledgements(list: readonly Acknowledgement[], style: Style, width?: number): string[] {
  const rows = list.map((acknowledgement) => [
    MARKS[acknowledgement.status][1],
    acknowledgement.finished_at,
    String(acknowledgement.seq),
    String(acknowledgement.gen ?? '-'),
    acknowledgement.verb,
    acknowledgement.status,
    acknowledgement.code ?? '-',
    String(Math.round(acknowledgement.duration_ms)),
    acknowledgement.id,
  ]);
  return table(ACK_COLUMNS, rows, style, width);
}

const STATUS_COLUMNS = [
  { title: 'HOST' },
  { title: 'VERSION' },
  { title: 'STATE' },
  { title: 'RUNNING', align: 'right' },
  { title: 'QUEUED', align: 'right' },
  { title: 'GEN', align: 'right' },
  { title: 'LAST COMMAND' },
] as const;

/** Agents, one per line, sorted by host name. */
export function renderStatus(list: readonly ReplyOf<'status'>[], style: Style, width?: number): string[] {
  const rows = list
    .toSorted((a, b) => (a.host < b.host ? -1 : 1))
    .map(({ host, version, ready, hooks, probes, queued, gen, last_command: last, troubles = [] }) => [
      host,
      version,
      ready ? 'ready' : troubles.some(({ task }) => task === 'consuming') ? 'cannot consume' : 'starting',
      runningOf([...hooks, ...(probes === undefined ? [] : [probes])]),
      String(queued),
      String(gen ?? '-'),
      last === undefined ? '-' : `${last.verb} ${last.status} ${last.finished_at}`,
    ]);
  const ofCompanions = list.flatMap(({ host, companions = [] }) =>
    companions.map((companion) => {
      const where = companion.direction === '' ? '' : ` at ${companion.iface}/${companion.direction}`;
      const state = companion.condition === 'given-up' ? 'was given up' : 'is to be started again';
      return `${host}: the companion of ${companion.name}${where} ${state} after ${companion.restarts} restarts`;
    }),
  );
  const foreign = list.flatMap(({ host, hooks }) =>
    hooks.flatMap((hook) =>
      (hook.foreign ?? []).map(({ text }) => `${host}: ${hook.iface}/${hook.direction}: ${harmless(text)}`),
    ),
  );
  const onTheBus = list.flatMap(({ host, troubles: those = [] }) =>
    those.map(({ message }) => `${host}: ${harmless(message)}`),
  );
  return [...table(STATUS_COLUMNS, rows, style, width), ...ofCompanions, ...onTheBus, ...foreign];
}

function runningOf(places: readonly { readonly running: number; readonly desired: number }[]): string {
  return `${sum(places.map(({ running }) => running))}/${sum(places.map(({ desired }) => desired))}`;
}

const RUNNING_COLUMNS = [
  { title: 'HOST' },
  { title: 'IFACE' },
  { title: 'DIRECTION' },
  { title: 'SEQ', align: 'right' },
  { title: 'PROGRAM' },
  { title: 'VERSION' },
  { title: 'STATE' },
  { title: 'MODE' },
  { title: 'PROG ID', align: 'right' },
] as const;

/** Desired programs, one per line, in the order in which packets pass them. */
export function renderPrograms(list: readonly ReplyOf<'programs'>[], style: Style, width?: number): string[] {
  const rows = list
    .toSorted((a, b) => (a.host < b.host ? -1 : 1))
    .flatMap(({ host, programs }) =>
      programs.map((program) => [
        host,
        ...placeOf(program),
        program.direction === '' ? '-' : String(program.seq_id),
        program.name,
        program.version,
        program.running ? 'running' : program.admin_status === 'disabled' ? 'disabled' : 'not running',
        program.mode ?? '-',
        program.prog_id === undefined ? '-' : String(program.prog_id),
      ]),
    );
  if (rows.length === 0) return [`No programs are desired on ${list.map(({ host }) => harmless(host)).join(', ')}.`];
  return table(RUNNING_COLUMNS, rows, style, width);
}

const PLAN_MARKS: Readonly<Record<string, readonly ['green' | 'yellow' | 'red' | 'dim', string]>> = {
  started: ['green', '+'],
  updated: ['yellow', '~'],
  moved: ['yellow', '~'],
  stopped: ['red', '-'],
};

/** What a command would do: each program with a mark, then the steps in order. */
export function renderPlan(plan: ReplyOf<'plan'>, style: Style): string[] {
  const waiting = plan.outcomes.flatMap(({ name, message }) => (message === undefined ? [] : [`${name}: ${message}`]));
  if (!plan.changes) {
    const same = `No changes: ${plan.host} already matches the payload`;
    if (waiting.length === 0) return [`${same}.`];
    return [`${same}, as far as it can now.`, ...waiting.map((line) => `  ${harmless(line)}`)];
  }
  const cells = plan.outcomes.map(({ iface, direction, name, version, result }) => [
    direction === '' ? 'probes' : `${iface}/${direction}`,
    `${name} ${version}`,
    result,
  ]);
  const programs = aligned(cells).map((line, index) => {
    const [colour, sign] = PLAN_MARKS[plan.outcomes[index]?.result ?? ''] ?? ['dim', '='];
    return style(colour, `  ${sign} ${harmless(line)}`);
  });
  const phase = (title: string, steps: ReplyOf<'plan'>['prepare']) =>
    steps.length === 0 ? [] : ['', style('bold', title), ...steps.map(({ text }) => `  ${harmless(text)}`)];
  return [
    ...programs,
    ...waiting.map((line) => `    ${harmless(line)}`),
    '',
    ...plan.reasons.map((reason) => harmless(reason)),
    ...(plan.notes ?? []).map((note) => style('yellow', `! ${harmless(note)}`)),
    ...phase('Before the change, no effect on packets (tried for this plan and rolled back):', plan.prepare),
    ...phase('The change itself:', plan.commit),
    ...phase('After the change:', plan.cleanup),
  ];
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
