import { mkdirSync, renameSync } from 'node:fs';
import type { ObservedProbe } from '../../../domain/observed.js';
import { probesFolder } from '../../../domain/pins.js';
import { describeTarget, type ProbeTarget, parseProbeSection } from '../../../domain/probe.js';
import { AgentError, messageOf } from '../../../errors.js';
import { functionOffset } from '../../elf/symbols.js';
import { check, ENOENT } from '../abi/errno.js';
import { Fd, tryOpenPin } from '../abi/fd.js';
import { type BpfProgram, libbpf } from '../abi/ffi.js';
import { linkInfo, mapIdsOf, programInfo } from '../abi/info.js';
import { whyNot } from '../diagnostics/tracing-features.js';
import type { OpenObject } from '../objects/object.js';
import { fileOperation, pin, walk } from '../pins/pins.js';
import { attachPerfEvent, PERF_TYPE_TRACEPOINT, perfSource, returnConfig, tracepointId } from './perf-event.js';

/*
 * Probes of an object: programs whose section names say where in the kernel or in a program they are attached. Their
 * links cannot be detached, only freed by their last user (they have no `detach` in kernel/bpf/syscall.c and
 * kernel/trace/bpf_trace.c). So what is pinned is attached.
 */

/** A probe of an open object. */
export interface ProbeProgram {
  readonly function: string;
  readonly program: BpfProgram;
  readonly target: ProbeTarget;
}

/**
 * The probes of an object, by their section names, without those that the object itself excludes (`SEC("?…")`). All its
 * other programs are not probes.
 *
 * @throws AgentError OBJECT_INVALID for the section name of a probe without a target
 */
export function probesIn(object: OpenObject): ProbeProgram[] {
  const bpf = libbpf();
  return object
    .programs()
    .filter((program) => bpf.bpf_program__autoload(program))
    .flatMap((program): ProbeProgram[] => {
      const target = targetOf(bpf.bpf_program__section_name(program));
      return target === undefined ? [] : [{ function: bpf.bpf_program__name(program), program, target }];
    });
}

function targetOf(section: string): ProbeTarget | undefined {
  try {
    return parseProbeSection(section);
  } catch (cause) {
    throw new AgentError('OBJECT_INVALID', messageOf(cause), { cause });
  }
}

/** `enum bpf_prog_type`; libbpf sets it for programs that need a function's BTF. */
const PROGRAM_TYPE: Readonly<Partial<Record<ProbeTarget['kind'], number>>> = {
  tracepoint: 5,
  'raw-tracepoint': 17,
  kprobe: 2,
  kretprobe: 2,
  uprobe: 2,
  uretprobe: 2,
};

/**
 * Makes libbpf load probes with their object.
 *
 * @throws AgentError ATTACH_FAILED saying what the kernel lacks
 */
export function includeProbes(probes: readonly ProbeProgram[]): void {
  const reasons = new Map([...new Set(probes.map(({ target }) => target.kind))].map((kind) => [kind, whyNot(kind)]));
  for (const { function: name, program, target } of probes) {
    const reason = reasons.get(target.kind);
    if (reason !== undefined) {
      const message = `The probe ${name} cannot be attached to ${describeTarget(target)}, since this machine does not support that: ${reason}`;
      throw new AgentError('ATTACH_FAILED', message, { detail: reason });
    }
    libbpf().bpf_program__set_autoload(program, true);
    const type = PROGRAM_TYPE[target.kind];
    if (type !== undefined) check(libbpf().bpf_program__set_type(program, type), `Cannot set the type of ${name}`);
  }
}

/**
 * Attaches loaded probes and pins them. They become visible all together: their folder is renamed to its final name
 * last.
 */
export function attachProbes(probes: readonly ProbeProgram[], dir: string): void {
  const unfinished = `${dir}/unfinished`;
  fileOperation(`Cannot make ${unfinished}`, () => mkdirSync(unfinished));
  for (const { function: name, program, target } of probes) {
    const folder = `${unfinished}/${name}`;
    fileOperation(`Cannot make ${folder}`, () => mkdirSync(folder));
    const number = libbpf().bpf_program__fd(program);
    using link = attachTo(target, number, name);
    pin(number, `${folder}/prog`);
    pin(link.number, `${folder}/link`);
  }
  fileOperation(`Cannot rename ${unfinished} to ${probesFolder(dir)}`, () => renameSync(unfinished, probesFolder(dir)));
}

function attachTo(target: ProbeTarget, program: number, name: string): Fd {
  try {
    return new Fd(check(linkTo(target, program), 'the kernel refuses the link'));
  } catch (cause) {
    const why = messageOf(cause);
    const message = `The probe ${name} cannot be attached to ${describeTarget(target)}: ${why}`;
    throw new AgentError('ATTACH_FAILED', message, { cause, detail: why });
  }
}

/** @returns the link's descriptor, or a negative errno */
function linkTo(target: ProbeTarget, program: number): number {
  switch (target.kind) {
    case 'tracepoint': {
      const { group, name } = target;
      const id = tracepointId(group, name);
      if (id === undefined) throw new Error('this kernel has no such tracepoint');
      return attachPerfEvent(program, { type: PERF_TYPE_TRACEPOINT, config: id }, 'all processes');
    }
    case 'raw-tracepoint': {
      const link = libbpf().bpf_raw_tracepoint_open(target.name, program);
      if (link === -ENOENT) throw new Error('this kernel has no such tracepoint');
      return link;
    }
    case 'kprobe':
    case 'kretprobe': {
      const config = target.kind === 'kretprobe' ? returnConfig('kprobe') : 0;
      const event = { type: perfSource('kprobe'), config, target: target.function, offset: target.offset };
      return attachPerfEvent(program, event, 'all processes');
    }
    case 'uprobe':
    case 'uretprobe': {
      const { symbol, offset } = target.place;
      const config = target.kind === 'uretprobe' ? returnConfig('uprobe') : 0;
      const begin = symbol === '' ? 0 : functionOffset(target.path, symbol);
      const event = { type: perfSource('uprobe'), config, target: target.path, offset: begin + offset };
      return attachPerfEvent(program, event, 'all processes');
    }
    // The program itself knows its target (bpf_raw_tp_link_attach in kernel/bpf/syscall.c).
    case 'tp-btf':
    case 'fentry':
    case 'fexit':
      return libbpf().bpf_raw_tracepoint_open(null, program);
  }
}

/** The probes that are pinned in a directory, by function. */
export function readProbes(dir: string): ObservedProbe[] {
  const folder = probesFolder(dir);
  return [...walk(folder, 1)].toSorted().map((name) => {
    using program = tryOpenPin('prog', `${folder}/${name}/prog`);
    using link = tryOpenPin('link', `${folder}/${name}/link`);
    return {
      function: name,
      programId: program !== undefined ? programInfo(program.number).id : undefined,
      linkId: link !== undefined ? linkInfo(link.number).id : undefined,
    };
  });
}

/** One of the probes that are pinned in a directory: all of them come from the same object. */
export function aProbe(dir: string): Fd | undefined {
  const folder = probesFolder(dir);
  for (const name of walk(folder, 1)) {
    const program = tryOpenPin('prog', `${folder}/${name}/prog`);
    if (program !== undefined) return program;
  }
  return undefined;
}

/** Ids of the maps that the probes in a directory use. */
export function mapsOfProbes(dir: string): ReadonlySet<number> {
  const folder = probesFolder(dir);
  const ids = new Set<number>();
  for (const name of walk(folder, 1)) {
    using program = tryOpenPin('prog', `${folder}/${name}/prog`);
    if (program !== undefined) for (const id of mapIdsOf(program.number)) ids.add(id);
  }
  return ids;
}

/** See `Datapath.moveProbes`. */
export function moveProbes(from: string, to: string): void {
  try {
    renameSync(probesFolder(from), probesFolder(to));
  } catch (cause) {
    const isThere = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT' && readProbes(to).length > 0;
    if (isThere) return;
    throw new AgentError('KERNEL', `Cannot move the probes of ${from} to ${to}`, { cause });
  }
}
