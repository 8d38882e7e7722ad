/** Where a probe program hangs, as the name of its section in the object says. */
export type ProbeTarget =
  | { readonly kind: 'tracepoint'; readonly group: string; readonly name: string }
  | { readonly kind: 'raw-tracepoint'; readonly name: string }
  | { readonly kind: 'kprobe' | 'kretprobe'; readonly function: string; readonly offset: number }
  | { readonly kind: 'uprobe' | 'uretprobe'; readonly path: string; readonly place: UprobePlace }
  | { readonly kind: 'fentry' | 'fexit'; readonly function: string };

/** A function of a program or library with a distance in bytes from its beginning, or a distance from the beginning of the file. */
export interface UprobePlace {
  /** '' where the offset counts from the beginning of the file. */
  readonly symbol: string;
  readonly offset: number;
}

/** The forms that libbpf has for each kind (`section_defs` in tools/lib/bpf/libbpf.c), the long ones and the short ones. */
const KINDS: Readonly<Record<string, ProbeTarget['kind']>> = {
  tracepoint: 'tracepoint',
  tp: 'tracepoint',
  raw_tracepoint: 'raw-tracepoint',
  raw_tp: 'raw-tracepoint',
  kprobe: 'kprobe',
  kretprobe: 'kretprobe',
  uprobe: 'uprobe',
  uretprobe: 'uretprobe',
  fentry: 'fentry',
  fexit: 'fexit',
};

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
/** Of a kernel function: compilers add `.isra.0` and the like. */
const FUNCTION = /^[A-Za-z_][A-Za-z0-9_.]{0,127}$/;
/** Of a library's function: C++ and versions have more signs. */
const SYMBOL = /^[A-Za-z_.$][A-Za-z0-9_.$@]{0,511}$/;
const NUMBER = /^(?:0x[0-9a-f]{1,13}|[0-9]{1,15})$/i;

/**
 * Reads the name of a section.
 *
 * @returns undefined for a section that is no probe's, or that names no place to attach it to
 * @throws SyntaxError for one that begins like a probe's and goes on like nothing that could be attached to
 */
export function parseProbeSection(section: string): ProbeTarget | undefined {
  const slash = section.indexOf('/');
  const kind = slash === -1 ? undefined : KINDS[section.slice(0, slash)];
  if (kind === undefined) return undefined;
  const target = parseTarget(kind, section.slice(slash + 1));
  if (target === undefined) throw new SyntaxError(`The section ${section} is not of the form ${FORMS[kind]}`);
  return target;
}

const FORMS: Readonly<Record<ProbeTarget['kind'], string>> = {
  tracepoint: 'tracepoint/<group>/<name>',
  'raw-tracepoint': 'raw_tp/<name>',
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
 * A section named `uprobe//usr/bin/app:main` has the whole path; in `uprobe/usr/bin/app:main` the slash that it begins with is the one
 * behind the kind. A name without a slash, which libbpf would look for along `PATH`, would depend on the agent's environment.
 */
function pathOf(text: string): string | undefined {
  const path = text.startsWith('/') ? text : `/${text}`;
  const isSound = /^(?:\/[^/\0]+){2,64}$/.test(path) && !path.split('/').some((part) => part === '.' || part === '..');
  return isSound && path.length < 4096 ? path : undefined;
}

/** A target in words: `tracepoint sched/sched_switch`. */
export function describeTarget(target: ProbeTarget): string {
  switch (target.kind) {
    case 'tracepoint':
      return `tracepoint ${target.group}/${target.name}`;
    case 'raw-tracepoint':
      return `raw tracepoint ${target.name}`;
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
