import { mkdirSync } from 'node:fs';
import { programKind } from '../../domain/hook.js';
import { encodeMapArgs, PROG_ARRAY } from '../../domain/mapvalue.js';
import { checkMonitors } from '../../domain/monitor.js';
import type { MapInfo } from '../../domain/observed.js';
import { mapPin, mapSegment, programPin, slotPin } from '../../domain/pins.js';
import { AgentError } from '../../errors.js';
import type { LoadProbesRequest, LoadRequest, MapChange } from '../datapath.js';
import { firstComplaint, verdict, verifierLog } from './complaints.js';
import { check, EPERM, errnoWords } from './errno.js';
import { tryOpenPin } from './fd.js';
import { type BpfMap, type BpfProgram, inBackground, libbpf } from './ffi.js';
import { mapIdsOf, mapInfo } from './info.js';
import { applyChange, inverse } from './maps.js';
import { Messages } from './messages.js';
import { declaredMap, type OpenObject, openObject } from './object.js';
import { makeNewDir, pin, removeTree } from './pins.js';
import { attachProbes, includeProbes, type Probe, probesIn } from './probes.js';

const BPF_MAP_TYPE_RINGBUF = 27;
/** How many lines of the verifier's log a fault carries: the end, where the reason stands. */
const DETAIL_LINES = 25;

/**
 * Program type and expected attach type of all programs of a chain. Programs that one PROG_ARRAY joins must agree in both
 * (bpf_prog_map_compatible in kernel/bpf/core.c), so it is fixed here and not left to the section names of packages.
 */
export const PROGRAM_TYPE = {
  xdp: { type: 6, expectedAttachType: 37 }, // BPF_PROG_TYPE_XDP, BPF_XDP
  tc: { type: 3, expectedAttachType: 0 }, // BPF_PROG_TYPE_SCHED_CLS
} as const;

/** Loads a generation and pins it; see `Datapath.load`. One load at a time. */
export async function loadGeneration(request: LoadRequest, bpffs: string): Promise<void> {
  using object = openObject(request.objectPath);
  const { entryFunction, dir, probes: treatment = 'attach' } = request;
  const probes = treatment === 'leave' ? [] : probesIn(object).filter((probe) => probe.function !== entryFunction);
  const program = chooseProgram(object, request);
  includeProbes(probes);
  await loadAndPin(object, request, bpffs, (maps) => {
    pinMaps(program, maps, request);
    if (probes.length > 0 && treatment === 'attach') attachProbes(probes, dir);
    // Last of all: a directory without a program is a torso that nothing relies on.
    pin(libbpf().bpf_program__fd(program), programPin(dir));
  });
}

/** Loads the probes of a package and pins them; see `Datapath.loadProbes`. */
export async function loadProbes(request: LoadProbesRequest, bpffs: string): Promise<void> {
  using object = openObject(request.objectPath);
  const probes = chooseProbes(object, request.entryFunction);
  for (const program of object.programs()) libbpf().bpf_program__set_autoload(program, false);
  includeProbes(probes);
  await loadAndPin(object, { ...request, slotMap: '' }, bpffs, (maps) => {
    mkdirSync(`${request.dir}/maps`);
    for (const [name, map] of maps) pin(libbpf().bpf_map__fd(map), mapPin(request.dir, name));
    if (request.treatment === 'attach') attachProbes(probes, request.dir);
  });
}

function chooseProbes(object: OpenObject, entryFunction: string): Probe[] {
  const bpf = libbpf();
  const probes = probesIn(object);
  const chosen = probes.filter((probe) => entryFunction === '' || probe.function === entryFunction);
  if (chosen.length > 0) return chosen;
  const there = object
    .programs()
    .map((program) => `${bpf.bpf_program__name(program)} (${bpf.bpf_program__section_name(program)})`)
    .join(', ');
  const what = entryFunction === '' ? 'no probe' : `no probe ${entryFunction}`;
  throw new AgentError('ENTRY_FUNCTION_NOT_FOUND', `The object has ${what}; it has ${there || 'nothing'}`);
}

type ObjectRequest = Pick<LoadRequest, 'dir' | 'slotMap' | 'share' | 'otherSide' | 'fill' | 'monitors'>;

/** @param pinAll pins what is loaded below the directory, which exists by then */
async function loadAndPin(
  object: OpenObject,
  request: ObjectRequest,
  bpffs: string,
  pinAll: (maps: ReadonlyMap<string, BpfMap>) => void,
): Promise<void> {
  const maps = object.maps();
  checkSlot(maps, request);
  shareMaps(maps, request);
  shareByName(maps, request);
  for (const map of maps.values()) libbpf().bpf_map__set_pin_path(map, null);
  const fill = encodeFill(object, maps, request);
  checkMonitors(
    [...maps.values()].map((map) => ({ ...declaredMap(map), ...object.layoutsOf(map) })),
    request.monitors,
    '',
  );

  await loadIntoKernel(object, request);

  const undo: (() => void)[] = [];
  try {
    for (const { map, info, change } of fill) {
      const open = { fd: libbpf().bpf_map__fd(map), info };
      const before = inverse(open, change);
      applyChange(open, change);
      undo.push(() => applyChange(open, before));
    }
    makeNewDir(request.dir, bpffs);
    undo.push(() => removeTree(request.dir, bpffs));
    pinAll(maps);
  } catch (error) {
    for (const step of undo.toReversed()) step();
    throw error;
  }
}

function chooseProgram(object: OpenObject, { hook, entryFunction }: LoadRequest): BpfProgram {
  const bpf = libbpf();
  const programs = object.programs();
  const chosen = programs.find((program) => bpf.bpf_program__name(program) === entryFunction);
  if (chosen === undefined) {
    const there = programs.map((program) => bpf.bpf_program__name(program)).join(', ') || 'none';
    const message = `The object has no program function ${entryFunction}; it has ${there}`;
    throw new AgentError('ENTRY_FUNCTION_NOT_FOUND', message);
  }
  for (const program of programs) bpf.bpf_program__set_autoload(program, program === chosen);
  const { type, expectedAttachType } = PROGRAM_TYPE[programKind(hook.direction)];
  check(bpf.bpf_program__set_type(chosen, type), `Cannot set the type of ${entryFunction}`);
  const attachType = bpf.bpf_program__set_expected_attach_type(chosen, expectedAttachType);
  check(attachType, `Cannot set the expected attach type of ${entryFunction}`);
  return chosen;
}

function checkSlot(maps: ReadonlyMap<string, BpfMap>, { slotMap }: ObjectRequest): void {
  if (slotMap === '') return;
  const slot = maps.get(slotMap);
  if (slot === undefined) {
    const there = [...maps.keys()].join(', ') || 'none';
    throw new AgentError('SLOT_INVALID', `The object has no map ${slotMap} to be the slot; it has ${there}`);
  }
  const { type, maxEntries } = declaredMap(slot);
  if (type === PROG_ARRAY && maxEntries === 1) return;
  const what = type === PROG_ARRAY ? `a PROG_ARRAY with ${maxEntries} entries` : `of map type ${type}`;
  throw new AgentError('SLOT_INVALID', `The slot ${slotMap} is ${what}; expected a PROG_ARRAY with one entry`);
}

/** Has libbpf take maps that exist instead of creating them. Each generation has a slot of its own, so that one is never shared. */
function shareMaps(maps: ReadonlyMap<string, BpfMap>, { share, slotMap }: ObjectRequest): void {
  const bySegment = new Map([...maps].map(([name, map]) => [mapSegment(name), map]));
  for (const source of share) {
    const map = bySegment.get(mapSegment(source.map));
    if (map === undefined) throw new AgentError('MAP_NOT_FOUND', `The object has no map ${source.map} to share`);
    if (source.map === slotMap) throw new AgentError('SLOT_INVALID', `The slot ${slotMap} cannot be shared`);
    using existing = tryOpenPin('map', source.pin);
    if (existing === undefined) throw new AgentError('MAP_NOT_FOUND', `No map to share is pinned at ${source.pin}`);
    checkSameShape(map, mapInfo(existing.number), source.pin);
    check(libbpf().bpf_map__reuse_fd(map, existing.number), `Cannot share the map pinned at ${source.pin}`);
  }
}

/** What is written in the payload for one side's map is for that side alone. */
function shareByName(
  maps: ReadonlyMap<string, BpfMap>,
  { share, otherSide, fill }: Pick<ObjectRequest, 'share' | 'otherSide' | 'fill'>,
): void {
  if (otherSide === undefined) return;
  const own = new Set([...share.map(({ map }) => mapSegment(map)), ...fill.map(({ name }) => mapSegment(name))]);
  for (const [name, map] of maps) {
    const isAsked = libbpf().bpf_map__pin_path(map) !== null && libbpf().bpf_map__type(map) !== PROG_ARRAY;
    using existing = isAsked && !own.has(mapSegment(name)) ? tryOpenPin('map', mapPin(otherSide, name)) : undefined;
    if (existing === undefined || differenceOf(declaredMap(map), mapInfo(existing.number)) !== undefined) continue;
    check(libbpf().bpf_map__reuse_fd(map, existing.number), `Cannot share the map ${name} with the other side of TC`);
  }
}

/** libbpf takes whatever it is given, and the program would then misread it. */
function checkSameShape(map: BpfMap, found: Omit<MapInfo, 'name'>, path: string): void {
  const wanted = declaredMap(map);
  const differs = differenceOf(wanted, found);
  if (differs === undefined) return;
  const message = `The map ${wanted.name} cannot be shared: its ${differs} is ${wanted[differs]} in the object`;
  throw new AgentError('MAP_INCOMPATIBLE', `${message} and ${found[differs]} in the map pinned at ${path}`);
}

function differenceOf(wanted: Omit<MapInfo, 'name'>, found: Omit<MapInfo, 'name'>) {
  const sized = wanted.maxEntries !== 0 && wanted.type !== BPF_MAP_TYPE_RINGBUF;
  const fields = ['type', 'keySize', 'valueSize', ...(sized ? (['maxEntries'] as const) : [])] as const;
  return fields.find((field) => wanted[field] !== found[field]);
}

interface Fill {
  readonly map: BpfMap;
  readonly info: MapInfo;
  readonly change: MapChange;
}

/** Turns the entries into bytes before anything is loaded, so that a value that does not fit costs nothing. */
function encodeFill(object: OpenObject, maps: ReadonlyMap<string, BpfMap>, { fill }: ObjectRequest): Fill[] {
  return fill.map((args) => {
    const { path } = args;
    const map = maps.get(args.name);
    if (map === undefined) {
      const there = [...maps.keys()].join(', ') || 'none';
      const message = `The object has no map ${args.name}; it has ${there}`;
      throw new AgentError('MAP_NOT_FOUND', message, { path: `${path}.name` });
    }
    const info = { ...declaredMap(map), ...object.layoutsOf(map) };
    return { map, info, change: { set: encodeMapArgs(info, args, path), remove: [] } };
  });
}

async function loadIntoKernel(object: OpenObject, request: ObjectRequest): Promise<void> {
  using messages = Messages.collect();
  const result = await inBackground(libbpf().bpf_object__load, object.pointer);
  if (result < 0) throw loadError(programName(request.dir), result, messages.text);
}

function loadError(name: string, errno: number, text: string): AgentError {
  const words = errnoWords(errno);
  const log = verifierLog(text);
  const reason = verdict(log);
  if (reason !== undefined) {
    const message = `The verifier refused ${name}: ${reason}`;
    const cause = new Error(log.join('\n'));
    return new AgentError('VERIFIER_REJECTED', message, { cause, detail: log.slice(-DETAIL_LINES).join('\n') });
  }
  if (Math.abs(errno) === EPERM) {
    const message = `The agent may not load ${name}; it needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or to be root`;
    return new AgentError('NO_PRIVILEGE', message, { detail: words });
  }
  const said = text.trim().split('\n').slice(-DETAIL_LINES).join('\n');
  const complaint = firstComplaint(text);
  const message = `The kernel did not load ${name} (${words})${complaint === undefined ? '' : `: ${complaint}`}`;
  return new AgentError('LOAD_FAILED', message, { detail: said === '' ? words : `${words}\n${said}` });
}

function pinMaps(program: BpfProgram, maps: ReadonlyMap<string, BpfMap>, { dir, slotMap }: ObjectRequest): void {
  const bpf = libbpf();
  const used = mapIdsOf(bpf.bpf_program__fd(program));
  mkdirSync(`${dir}/maps`);
  for (const [name, map] of maps) {
    const fd = bpf.bpf_map__fd(map);
    if (name === slotMap) pin(fd, slotPin(dir));
    // Slots of other programs of the object come with it, but are nothing to this one.
    else if (bpf.bpf_map__type(map) !== PROG_ARRAY || used.has(mapInfo(fd).id)) pin(fd, mapPin(dir, name));
  }
}

/** `…/progs/<iface>/<program>/<version>/<generation>`. */
function programName(dir: string): string {
  return dir.split('/').at(-3) ?? dir;
}
