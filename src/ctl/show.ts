import type { ReplyOf } from '../messages/requests.js';
import { type Box, drawBoxes } from './boxes.js';
import { harmless, type Style } from './style.js';
import { aligned, grouped, indent } from './table.js';

type Chains = ReplyOf<'chains'>;
type ShownHook = Chains['hooks'][number];
type Probes = NonNullable<Chains['probes']>;
type ShownSubchain = ShownHook['strands'][number];
type ShownMember = ShownSubchain['members'][number];
type ShownRuns = NonNullable<ShownSubchain['runs']>;

const HOOK_INDENT = 2;
const CHAIN_INDENT = 4;

/**
 * Draws the chains of hosts: for each hook how it is attached and what packets pass. Differences from the desired state
 * are red.
 *
 * @param width columns of the terminal
 */
export function renderChains(list: readonly Chains[], style: Style, width: number): string[] {
  const hosts = list
    .toSorted((a, b) => (a.host < b.host ? -1 : 1))
    .flatMap((chains, index) => [...(index === 0 ? [] : ['']), ...renderHost(chains, style, width)]);
  const strands = list.flatMap(({ hooks }) => hooks.flatMap((hook) => hook.strands));
  const asked = list.some(({ window_ms: window }) => window !== undefined);
  const counted = strands.some(({ runs }) => runs !== undefined && runs.count > 0);
  const hint = !asked && !counted && strands.some(({ attachment }) => attachment?.attached === true) ? ['', HINT] : [];
  return [...hosts, ...hint.map((line) => style('dim', line))];
}

const HINT = 'No packets are counted: the kernel counts only during l3afctl show --stats 2s, or while run_stats is on.';

function renderHost(chains: Chains, style: Style, width: number): string[] {
  const unknown = chains.known ? [] : [style('yellow', 'The desired state is not known until the next deploy.')];
  const hooks = chains.hooks.flatMap((hook) => ['', ...renderHook(hook, chains, style, width)]);
  const probes = chains.probes === undefined ? [] : ['', ...renderProbes(chains.probes, chains.known, style)];
  const none = hooks.length + probes.length === 0 ? ['No chains.'] : [];
  return [style('bold', harmless(chains.host)), ...indent([...unknown, ...none], HOOK_INDENT), ...hooks, ...probes];
}

/** One line for each probe function. Probes have no order, and no packets pass them. */
function renderProbes(probes: Probes, known: boolean, style: Style): string[] {
  const { standing, desired, differences } = probes;
  const functions = standing.flatMap(({ name, version, functions }) =>
    functions.map((part) => ({
      program: name,
      cells: [`${name} ${version}`, ...partCells(part)],
    })),
  );
  const absent = desired.filter(({ name }) => !standing.some((load) => load.name === name));
  const missing = absent
    .filter(({ admin_status: status }) => status === 'enabled')
    .map(({ name, version }) => ({ program: name, cells: [`${name} ${version}`, 'missing'] }));
  const rows = [...functions, ...missing];
  const wrong = new Set(differences.flatMap(({ programs }) => programs));
  const lines = aligned(rows.map(({ cells }) => cells)).map((line, index) =>
    wrong.has(rows[index]?.program ?? '') ? style('red', harmless(line)) : harmless(line),
  );
  const disabled = absent.filter(({ admin_status: status }) => status === 'disabled');
  return [
    ...indent([[hookMark(probes, known, style), style('bold', 'probes')].join('  ')], HOOK_INDENT),
    ...indent([...lines, ...disabledText(disabled, style), ...differencesText(differences, style)], CHAIN_INDENT),
  ];
}

function renderHook(hook: ShownHook, chains: Chains, style: Style, width: number): string[] {
  const { iface, direction, desired, differences, foreign = [] } = hook;
  const where = style('bold', `${harmless(iface)} ${direction}`);
  const disabled = desired.filter((program) => program.admin_status === 'disabled' && !has(hook, program.name));
  return [
    ...indent([[hookMark(hook, chains.known, style), where, attachmentText(hook, style)].join('  ')], HOOK_INDENT),
    ...indent(
      [
        ...drawBoxes(boxesOf(hook), style, width - CHAIN_INDENT),
        ...besideText(hook),
        ...runsText(hook, chains.window_ms).map((line) => style('dim', line)),
        ...disabledText(disabled, style),
        ...differencesText(differences, style),
        ...foreign.map(({ text }) => style('yellow', `! ${harmless(text)}`)),
      ],
      CHAIN_INDENT,
    ),
  ];
}

function partCells({ name, prog_id: id, link_id: link }: Probes['standing'][number]['functions'][number]): string[] {
  return [name, id === undefined ? 'not pinned' : `prog ${id}`, link === undefined ? 'not attached' : `link ${link}`];
}

/** The probes that belong to programs of a chain. */
function besideText({ strands }: ShownHook): string[] {
  const cells = strands.flatMap(({ members }) =>
    members.flatMap(({ name, version, probes = [] }) =>
      probes.map((part) => [`probe of ${name} ${version}`, ...partCells(part)]),
    ),
  );
  return aligned(cells).map((line) => harmless(line));
}

function disabledText(programs: readonly { name: string; version: string }[], style: Style): string[] {
  if (programs.length === 0) return [];
  return [style('dim', `disabled: ${programs.map(({ name, version }) => harmless(`${name} ${version}`)).join(', ')}`)];
}

function differencesText(differences: ShownHook['differences'], style: Style): string[] {
  return differences.map(({ text }) => style('red', `✖ ${harmless(text)}`));
}

function hookMark({ differences }: Pick<ShownHook, 'differences'>, known: boolean, style: Style): string {
  if (!known) return style('yellow', '?');
  return differences.length === 0 ? style('green', '✔') : style('red', '✖');
}

function attachmentText({ strands, interface_present: present }: ShownHook, style: Style): string {
  if (!present) return style('red', 'no such interface');
  const attachments = strands.flatMap(({ attachment }) => attachment ?? []);
  if (attachments.length === 0) return style('red', 'not attached');
  return attachments
    .map(({ kind, mode, link_id: link, attached }) => {
      const where = mode === undefined ? kind : `${kind} ${mode}`;
      const how = link === 0 ? `${kind} filter` : `${where} link ${link}`;
      return attached ? style('dim', how) : style('red', `${how}, detached`);
    })
    .join(style('dim', ', '));
}

function boxesOf(hook: ShownHook): Box[] {
  const { strands, desired, differences } = hook;
  const wrong = new Set(differences.flatMap(({ programs }) => programs));
  const standing = strands.flatMap(({ members }, at) => [
    ...members.map((member, index): Box => {
      const { name, version, root, prog_id: id, slot } = member;
      return {
        title: harmless(root ? name : `${name} ${version}`),
        text: `prog ${id}`,
        foot: slot === undefined ? '' : `slot ${slot.map_id}`,
        tone: wrong.has(name) ? 'wrong' : 'plain',
        reachedBy: index > 0 ? 'slot' : at > 0 ? 'order' : undefined,
      };
    }),
    ...strayBox(members),
  ]);
  const missing = desired
    .filter(({ name, admin_status: status }) => status === 'enabled' && !has(hook, name))
    .map(({ name, version }) => lost(harmless(`${name} ${version}`), 'missing', undefined));
  return [...standing, ...missing];
}

/** What the last slot names, if it is not empty: packets go to a program that they should not reach. */
function strayBox(members: readonly ShownMember[]): Box[] {
  const next = members.at(-1)?.slot?.next ?? null;
  if (next === null) return [];
  const again = members.find(({ prog_id: id }) => id === next);
  return [lost(again === undefined ? 'not ours' : `${harmless(again.name)} again`, `prog ${next}`, 'slot')];
}

function lost(title: string, text: string, reachedBy: Box['reachedBy']): Box {
  return { title, text, foot: '', tone: 'wrong', reachedBy };
}

function has({ strands }: ShownHook, name: string): boolean {
  return strands.some(({ members }) => members.some((member) => member.name === name));
}

/**
 * One line for each subchain: `12,345 packets counted, 151 ns each`. With a window, the rate within the window comes
 * first.
 */
function runsText({ strands }: ShownHook, windowMs: number | undefined): string[] {
  return strands.flatMap(({ members, runs, recent_runs: recent }) => {
    if (runs === undefined || (runs.count === 0 && windowMs === undefined)) return [];
    const whose = strands.length === 1 ? '' : `from ${harmless(members[0]?.name ?? '')} on: `;
    const total = `${packets(runs.count)} counted`;
    if (recent === undefined || windowMs === undefined) return [`${whose}${total}${timeEach(runs)}`];
    const rate = Math.round((recent.count / windowMs) * 1000);
    return [`${whose}${packets(rate)}/s${timeEach(recent)}; ${total}`];
  });
}

function packets(count: number): string {
  return `${grouped(count)} ${count === 1 ? 'packet' : 'packets'}`;
}

function timeEach({ count, time_ns: time }: ShownRuns): string {
  return count === 0 ? '' : `, ${grouped(Math.round(time / count))} ns each through the chain`;
}
