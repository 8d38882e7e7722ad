import { AgentError } from '../errors.js';
import { ATTACH_POINTS } from './attach-points/registry.js';

/** Where a probe program is attached, according to the name of its section in the object. */
export type ProbeTarget =
  | { readonly kind: 'tracepoint'; readonly group: string; readonly name: string }
  | { readonly kind: 'raw-tracepoint' | 'tp-btf'; readonly name: string }
  | { readonly kind: 'kprobe' | 'kretprobe'; readonly function: string; readonly offset: number }
  | { readonly kind: 'uprobe' | 'uretprobe'; readonly path: string; readonly place: UprobePlace }
  | { readonly kind: 'fentry' | 'fexit'; readonly function: string };

/**
 * A function of a program or library with an offset in bytes from its beginning, or an offset from the beginning of the
 * file.
 */
export interface UprobePlace {
  /** '' if the offset counts from the beginning of the file. */
  readonly symbol: string;
  readonly offset: number;
}

/** The long and short forms that libbpf has for each kind (`section_defs` in tools/lib/bpf/libbpf.c). */
const KINDS: Readonly<Record<string, ProbeTarget['kind']>> = {
  tracepoint: 'tracepoint',
  tp: 'tracepoint',
  raw_tracepoint: 'raw-tracepoint',
  raw_tp: 'raw-tracepoint',
  tp_btf: 'tp-btf',
  kprobe: 'kprobe',
  kretprobe: 'kretprobe',
  uprobe: 'uprobe',
  uretprobe: 'uretprobe',
  fentry: 'fentry',
  fexit: 'fexit',
};

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
/** Kernel functions may have suffixes from the compiler, such as `.isra.0`. */
const FUNCTION = /^[A-Za-z_][A-Za-z0-9_.]{0,127}$/;
/** Library functions may contain more characters, because of C++ and symbol versions. */
const SYMBOL = /^[A-Za-z_.$][A-Za-z0-9_.$@]{0,511}$/;
const NUMBER = /^(?:0x[0-9a-f]{1,13}|[0-9]{1,15})$/i;

/**
 * Parses the name of a section.
 *
 * @returns undefined for a section that is not a probe's, or that names no place to attach to
 * @throws SyntaxError for a name that begins like a probe's but has an invalid target
 */
export function parseProbeSection(section: string): ProbeTarget | undefined {
  const slash = section.indexOf('/');
  const kind = slash === -1 ? undefined : KINDS[section.slice(0, slash)];
  if (kind === undefined) return undefined;
  const target = parseTarget(kind, section.slice(slash + 1));
  if (target === undefined) throw new SyntaxError(`The section ${section} is not of the form ${FORMS[kind]}`);
  return target;
}

/** As they are written in sections: `tracepoint, raw_tp, …`. */
const PROBE_KINDS = 'tracepoint, raw_tp, tp_btf, kprobe, kretprobe, uprobe, uretprobe, fentry and fexit';

/** Sections of programs that are attached to something, but not by the agent: neither as a probe nor in a chain. */
const OTHER_KINDS =
  /^(?:ksyscall|kretsyscall|usdt|perf_event|iter|lsm|lsm_cgroup|fmod_ret|freplace|struct_ops|syscall|netfilter|sockops|socket|sk_[a-z]+|cgroup(?!\/skb$)|lwt_[a-z0-9]+|lirc_mode2|flow_dissector)(?:\.[a-z]+)*(?:\/|$)/;
/** Variants of kinds of probes, which libbpf writes with a dot: for many functions at once, or for programs that sleep. */
const OTHER_VARIANTS = /^(?:kprobe|kretprobe|uprobe|uretprobe|fentry|fexit|tp_btf|raw_tp|raw_tracepoint)\.[a-z]/;

/** A program of an object: its function, and the name of its section. */
export interface ObjectProgram {
  readonly name: string;
  readonly section: string;
}

/** What an object has beside the entry program of a chain. */
export interface OtherPrograms {
  /** The probes that were loaded. */
  readonly probes: readonly ObjectProgram[];
  /**
   * What is left out, without what the object tail-calls itself: programs of kinds that the agent does not attach, or, where
   * only probes were asked for, programs of chains.
   */
  readonly others: readonly ObjectProgram[];
}

/**
 * Probes of different kinds that see the same event, in groups: in objects for several kernels, they are variants of one,
 * of which a loader is to choose.
 */
export function variantsOf(probes: readonly ObjectProgram[]): readonly (readonly ObjectProgram[])[] {
  const byEvent = new Map<string, { readonly probe: ObjectProgram; readonly kind: string }[]>();
  for (const probe of probes) {
    const target = parseProbeSection(probe.section);
    const event = target === undefined ? undefined : eventOf(target);
    if (target === undefined || event === undefined) continue;
    byEvent.set(event, [...(byEvent.get(event) ?? []), { probe, kind: target.kind }]);
  }
  return [...byEvent.values()]
    .filter((group) => new Set(group.map(({ kind }) => kind)).size > 1)
    .map((group) => group.map(({ probe }) => probe));
}

/** What a probe sees, by whatever kind of probe; undefined for what only one kind sees. */
function eventOf(target: ProbeTarget): string | undefined {
  switch (target.kind) {
    case 'tracepoint':
    case 'raw-tracepoint':
    case 'tp-btf':
      return `tracepoint ${target.name}`;
    case 'kprobe':
      return target.offset === 0 ? `begin of ${target.function}` : undefined;
    case 'fentry':
      return `begin of ${target.function}`;
    case 'kretprobe':
    case 'fexit':
      return `end of ${target.function}`;
    case 'uprobe':
    case 'uretprobe':
      return undefined;
  }
}

/**
 * The programs that are attached to something, but not by the agent.
 *
 * @param programs without those that the object itself leaves out, with `SEC("?…")`
 */
export function ofOtherKinds(programs: readonly ObjectProgram[]): readonly ObjectProgram[] {
  return programs.filter(({ section }) => OTHER_KINDS.test(section) || OTHER_VARIANTS.test(section));
}

/** `name (section), …`. */
export function programsInWords(programs: readonly ObjectProgram[]): string {
  return programs.map(({ name, section }) => `${name} (${section})`).join(', ');
}

/**
 * Refuses programs of an object of probes that would be left out without a word.
 *
 * @throws AgentError OBJECT_INVALID for programs that the agent cannot attach
 */
export function refuseOtherKinds(programs: readonly ObjectProgram[]): void {
  const others = ofOtherKinds(programs);
  if (others.length === 0) return;
  const names = programsInWords(others);
  const advice = '; name the probe to use in entry_function_name, or leave the others out with SEC("?…")';
  const isAll = others.length === programs.length;
  const message = `The agent cannot attach ${names}. The kinds of probes are ${PROBE_KINDS}${isAll ? '' : advice}`;
  throw new AgentError('OBJECT_INVALID', message);
}

/**
 * The error for an object in which there is no probe to load.
 *
 * @param programs what is in it instead
 * @param entryFunction the function that was asked for; '' for any
 */
export function noProbe(programs: readonly ObjectProgram[], entryFunction: string): AgentError {
  const what = entryFunction === '' ? 'no probe' : `no probe ${entryFunction}`;
  const advice = chainsInWords(programs);
  const there = programsInWords(programs) || 'nothing';
  const message = `The object has ${what}; it has ${there}${advice === '' ? '' : `. ${advice}`}`;
  return new AgentError('ENTRY_FUNCTION_NOT_FOUND', message);
}

/** The programs whose sections say that they belong in a chain. */
export function ofChains(programs: readonly ObjectProgram[]): readonly ObjectProgram[] {
  return programs.filter(({ section }) => listsFor(section).length > 0);
}

/** `name belongs in xdp_ingress. …`; '' if none belongs in a chain. */
export function chainsInWords(programs: readonly ObjectProgram[]): string {
  return ofChains(programs)
    .map(({ name, section }) => `${name} belongs in ${listsFor(section).join(' or ')}`)
    .join('. ');
}

/** The lists of a payload in which programs of a section belong; none for a section of no chain. */
function listsFor(section: string): readonly string[] {
  return Object.values(ATTACH_POINTS)
    .filter(({ sections }) => sections.test(section.replace(/^\?/, '')))
    .map(({ payloadList }) => payloadList);
}

const FORMS: Readonly<Record<ProbeTarget['kind'], string>> = {
  tracepoint: 'tracepoint/<group>/<name>',
  'raw-tracepoint': 'raw_tp/<name>',
  'tp-btf': 'tp_btf/<name>',
  kprobe: 'kprobe/<function>[+<offset>]',
  kretprobe: 'kretprobe/<function>',
  uprobe: 'uprobe/<path>:<symbol>[+<offset>] or uprobe/<path>:<offset>',
  uretprobe: 'uretprobe/<path>:<symbol> or uretprobe/<path>:<offset>',
  fentry: 'fentry/<function>',
  fexit: 'fexit/<function>',
};

function parseTarget(kind: ProbeTarget['kind'], rest: string): ProbeTarget | undefined {
  switch (kind) {
    case 'tracepoint': {
      const [group = '', name = '', ...more] = rest.split('/');
      return NAME.test(group) && NAME.test(name) && more.length === 0 ? { kind, group, name } : undefined;
    }
    case 'raw-tracepoint':
    case 'tp-btf':
      return NAME.test(rest) ? { kind, name: rest } : undefined;
    case 'fentry':
    case 'fexit':
      return FUNCTION.test(rest) ? { kind, function: rest } : undefined;
    case 'kprobe':
    case 'kretprobe': {
      const place = parsePlace(rest, FUNCTION);
      if (place === undefined || place.symbol === '' || (kind === 'kretprobe' && place.offset !== 0)) return undefined;
      return { kind, function: place.symbol, offset: place.offset };
    }
    case 'uprobe':
    case 'uretprobe': {
      const colon = rest.lastIndexOf(':');
      const path = pathOf(rest.slice(0, Math.max(0, colon)));
      const place = parsePlace(rest.slice(colon + 1), SYMBOL);
      return path === undefined || place === undefined ? undefined : { kind, path, place };
    }
  }
}

/** `function`, `function+0x10`, `0x10` or `+0x10`. */
function parsePlace(text: string, symbols: RegExp): UprobePlace | undefined {
  const plus = text.indexOf('+');
  const [symbol, distance] = plus === -1 ? [text, undefined] : [text.slice(0, plus), text.slice(plus + 1)];
  if (distance === undefined && NUMBER.test(symbol)) return { symbol: '', offset: Number(symbol) };
  if (distance !== undefined && !NUMBER.test(distance)) return undefined;
  if (symbol === '' && distance === undefined) return undefined;
  if (symbol !== '' && !symbols.test(symbol)) return undefined;
  return { symbol, offset: Number(distance ?? 0) };
}

/**
 * The path of a uprobe. A section `uprobe//usr/bin/app:main` contains the whole path. In `uprobe/usr/bin/app:main`, the
 * slash after the kind is also the first one of the path. libbpf would search `PATH` for a name without slash, which
 * would depend on the agent's environment.
 */
function pathOf(text: string): string | undefined {
  const path = text.startsWith('/') ? text : `/${text}`;
  const isSound = /^(?:\/[^/\0]+){2,64}$/.test(path) && !path.split('/').some((part) => part === '.' || part === '..');
  return isSound && path.length < 4096 ? path : undefined;
}

/** Describes a target: `tracepoint sched/sched_switch`. */
export function describeTarget(target: ProbeTarget): string {
  switch (target.kind) {
    case 'tracepoint':
      return `tracepoint ${target.group}/${target.name}`;
    case 'raw-tracepoint':
      return `raw tracepoint ${target.name}`;
    case 'tp-btf':
      return `tp_btf ${target.name}`;
    case 'kprobe':
    case 'kretprobe':
      return `${target.kind} ${target.function}${offsetText(target.offset)}`;
    case 'uprobe':
    case 'uretprobe': {
      const { symbol, offset } = target.place;
      return `${target.kind} ${target.path}:${symbol}${symbol === '' ? offset : offsetText(offset)}`;
    }
    case 'fentry':
    case 'fexit':
      return `${target.kind} ${target.function}`;
  }
}

function offsetText(offset: number): string {
  return offset === 0 ? '' : `+${offset}`;
}
