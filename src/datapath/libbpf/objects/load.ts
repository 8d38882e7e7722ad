import { mkdirSync } from 'node:fs';
import { attachPointOf, type ChainHook } from '../../../domain/hook.js';
import { checkMapBytes, PROG_ARRAY } from '../../../domain/map-types.js';
import type { MapInfo } from '../../../domain/observed.js';
import { mapPin, mapSegment, mapsFolder, programPin, slotPin } from '../../../domain/pins.js';
import {
  noProbe,
  type ObjectProgram,
  type OtherPrograms,
  ofChains,
  ofOtherKinds,
  refuseOtherKinds,
} from '../../../domain/probe.js';
import { AgentError } from '../../../errors.js';
import type { LoadProbesRequest, LoadRequest } from '../../datapath.js';
import { checkEntrySection, entryOfAnotherKind, unlikeItsChain } from '../../elf/bpf-elf.js';
import { check, EPERM, errnoWords } from '../abi/errno.js';
import { tryOpenPin } from '../abi/fd.js';
import { type BpfMap, type BpfProgram, inBackground, libbpf } from '../abi/ffi.js';
import { mapIdsOf, mapInfo } from '../abi/info.js';
import { ATTACH_DRIVERS } from '../attach/drivers.js';
import { applyChange, inverse } from '../maps/maps.js';
import { areCompatible } from '../maps/slot.js';
import { makeNewDir, pin, removeTree } from '../pins/pins.js';
import { attachProbes, includeProbes, type ProbeProgram, probesIn } from '../tracing/probes.js';
import { atField, checkReadable, encodeFill, isInitial, makeKeys, setInitialValue, writableFd } from './filling.js';
import { Messages } from './libbpf-print.js';
import type { LoadEnvironment } from './loader-protocol.js';
import { declaredMap, type OpenObject, openObject, type ReportProgress } from './object.js';
import { refusedMapName, whyRefused } from './refused-map.js';
import { firstComplaint, verdict, verifierLog } from './verifier-log.js';

const BPF_MAP_TYPE_RINGBUF = 27;
/**
 * How many lines of the verifier's log, or of what libbpf says, an error carries: the last ones, which give the reason. An
 * answer that is too large for the server is cut again (messages/shorten.ts).
 */
const DETAIL_LINES = 25;

/** What does not depend on the object. */
interface LoadContext extends LoadEnvironment {
  readonly report: ReportProgress;
}

/** Loads a program and pins it; see `Datapath.load`. One load at a time. */
export async function loadProgram(request: LoadRequest, context: LoadContext): Promise<OtherPrograms> {
  using object = openObject(request.objectPath, context.report);
  const wanted = wantedIn(object);
  const { entryFunction, dir, probes: treatment = 'attach' } = request;
  const probes = treatment === 'leave' ? [] : probesIn(object).filter((probe) => probe.function !== entryFunction);
  const program = chooseProgram(object, request);
  includeProbes(probes);
  await loadAndPin(object, request, context, (maps) => {
    checkLike(program, request);
    pinMaps(program, maps, object, request);
    if (probes.length > 0 && treatment === 'attach') attachProbes(probes, dir);
    // Last of all: nothing relies on an incomplete directory without a program.
    pin(libbpf().bpf_program__fd(program), programPin(dir));
  });
  const own = new Set([program, ...tailCalled(object)].map((one) => libbpf().bpf_program__name(one)));
  const others = ofOtherKinds(wanted.filter(({ name }) => !own.has(name)));
  return { probes: probes.map((probe) => inSection(probe.program)), others };
}

/** @throws AgentError LOAD_FAILED */
function checkLike(program: BpfProgram, { hook, like = null }: LoadRequest): void {
  using other = like === null ? undefined : tryOpenPin('prog', like);
  if (other === undefined || areCompatible(other.number, libbpf().bpf_program__fd(program))) return;
  const { name, section } = inSection(program);
  throw unlikeItsChain(name, section, attachPointOf(hook).programType);
}

/** Loads the probes of a package and pins them; see `Datapath.loadProbes`. */
export async function loadProbes(request: LoadProbesRequest, context: LoadContext): Promise<OtherPrograms> {
  using object = openObject(request.objectPath, context.report);
  // Before the choice, by which some are left out.
  const wanted = wantedIn(object);
  const probes = chooseProbes(object, request.entryFunction);
  for (const program of object.programs()) libbpf().bpf_program__set_autoload(program, false);
  for (const program of tailCalled(object)) libbpf().bpf_program__set_autoload(program, true);
  includeProbes(probes);
  await loadAndPin(object, { ...request, slotMap: '' }, context, (maps) => {
    mkdirSync(mapsFolder(request.dir));
    for (const [name, map] of maps) pin(libbpf().bpf_map__fd(map), mapPin(request.dir, name));
    if (request.treatment === 'attach') attachProbes(probes, request.dir);
  });
  const called = new Set(tailCalled(object).map((program) => libbpf().bpf_program__name(program)));
  const rest = request.entryFunction === '' ? wanted.filter(({ name }) => !called.has(name)) : [];
  const others = ofChains(rest);
  return { probes: probes.map((probe) => inSection(probe.program)), others };
}

function chooseProbes(object: OpenObject, entryFunction: string): ProbeProgram[] {
  const probes = probesIn(object);
  const chosen = probes.filter((probe) => entryFunction === '' || probe.function === entryFunction);
  if (entryFunction === '') refuseOtherKinds(wantedIn(object));
  if (chosen.length > 0) return chosen;
  throw noProbe(object.programs().map(inSection), entryFunction);
}

/** The object's programs, without those that it leaves out itself. */
function wantedIn(object: OpenObject): readonly ObjectProgram[] {
  return object
    .programs()
    .filter((program) => libbpf().bpf_program__autoload(program))
    .map(inSection);
}

function inSection(program: BpfProgram): ObjectProgram {
  return { name: libbpf().bpf_program__name(program), section: libbpf().bpf_program__section_name(program) };
}

type ObjectRequest = Pick<LoadRequest, 'dir' | 'slotMap' | 'share' | 'otherSides' | 'fill' | 'monitors' | 'probes'>;

/** @param pinAll pins what is loaded below the directory, which exists at that time */
async function loadAndPin(
  object: OpenObject,
  request: ObjectRequest,
  { bpffs, maxMapBytes, report }: LoadContext,
  pinAll: (maps: ReadonlyMap<string, BpfMap>) => void,
): Promise<void> {
  const maps = object.maps();
  checkSlot(maps, request);
  shareMaps(maps, object, request);
  shareByName(maps, request);
  const isNew = (map: BpfMap) => libbpf().bpf_map__fd(map) < 0;
  checkMapBytes([...maps.values()].filter(isNew).map(declaredMap), maxMapBytes);
  for (const map of maps.values()) libbpf().bpf_map__set_pin_path(map, null);
  const declared = [...maps.values()].map((map) => ({ map, info: { ...declaredMap(map), ...object.layoutsOf(map) } }));
  const fill = [...encodeFill(declared, request), ...makeKeys(declared, request)];
  const [before, after] = [fill.filter(isInitial), fill.filter((one) => !isInitial(one))];
  for (const one of before) setInitialValue(one);

  report('loading the object');
  await loadIntoKernel(object, request);
  report('pinning what was loaded');

  const undo: (() => void)[] = [];
  try {
    checkReadable(object, after);
    for (const { map, info, change, path } of after) {
      using fd = writableFd(map);
      const open = { fd: fd.number, info };
      const former = inverse(open, change);
      atField(path, () => applyChange(open, change));
      undo.push(() => {
        using again = writableFd(map);
        applyChange({ fd: again.number, info }, former);
      });
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
  checkSection(chosen, entryFunction, hook);
  const called = tailCalled(object).filter((program) => program !== chosen);
  const kind = sectionType(chosen);
  for (const program of programs) {
    bpf.bpf_program__set_autoload(program, program === chosen || called.includes(program));
  }
  // Functions of another kind are called by other programs of the object, which do not run.
  for (const program of [chosen, ...called.filter((other) => [kind, undefined].includes(sectionType(other)))]) {
    const { type, expectedAttachType } = ATTACH_DRIVERS[hook.direction].program;
    const name = bpf.bpf_program__name(program);
    check(bpf.bpf_program__set_type(program, type), `Cannot set the type of ${name}`);
    const attachType = bpf.bpf_program__set_expected_attach_type(program, expectedAttachType);
    check(attachType, `Cannot set the expected attach type of ${name}`);
  }
  return chosen;
}

/** The programs that the object itself puts into a PROG_ARRAY. libbpf fails to fill it if they are not loaded. */
function tailCalled(object: OpenObject): BpfProgram[] {
  const names = new Set([...object.file.tailCalls.values()].flatMap((functions) => [...functions]));
  return object.programs().filter((program) => names.has(libbpf().bpf_program__name(program)));
}

/** The `enum bpf_prog_type` that libbpf gives a program by its section; undefined for a section that it does not know. */
function sectionType(program: BpfProgram): number | undefined {
  const [type, attachType] = [Buffer.alloc(4), Buffer.alloc(4)];
  const section = libbpf().bpf_program__section_name(program);
  return libbpf().libbpf_prog_type_by_name(section, type, attachType) === 0 ? type.readUInt32LE() : undefined;
}

/** `enum bpf_prog_type` of programs that libbpf attaches by the kernel's BTF: TRACING, STRUCT_OPS, EXT and LSM. */
const TYPES_WITH_BTF: ReadonlySet<number> = new Set([26, 27, 28, 29]);

/** Asks libbpf as well, which knows the sections of its version. */
function checkSection(program: BpfProgram, entryFunction: string, hook: ChainHook): void {
  const { programs } = attachPointOf(hook);
  const section = libbpf().bpf_program__section_name(program);
  checkEntrySection(section, entryFunction, programs);
  const type = sectionType(program);
  if (type !== undefined && TYPES_WITH_BTF.has(type)) throw entryOfAnotherKind(section, entryFunction, programs);
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

/**
 * Makes libbpf use existing maps instead of creating them. A slot is never shared: each load has its own. Nor is a map
 * of the object's own tail calls: libbpf would put the new functions into it while the old program still calls them.
 */
function shareMaps(maps: ReadonlyMap<string, BpfMap>, { file }: OpenObject, { share, slotMap }: ObjectRequest): void {
  const bySegment = new Map([...maps].map(([name, map]) => [mapSegment(name), map]));
  for (const source of share) {
    const map = bySegment.get(mapSegment(source.map));
    if (map === undefined) throw new AgentError('MAP_NOT_FOUND', `The object has no map ${source.map} to share`);
    if (source.map === slotMap) throw new AgentError('SLOT_INVALID', `The slot ${slotMap} cannot be shared`);
    if (file.tailCalls.has(libbpf().bpf_map__name(map))) continue;
    using existing = tryOpenPin('map', source.pin);
    if (existing === undefined) throw new AgentError('MAP_NOT_FOUND', `No map to share is pinned at ${source.pin}`);
    checkSameShape(map, mapInfo(existing.number), source.pin);
    check(libbpf().bpf_map__reuse_fd(map, existing.number), `Cannot share the map pinned at ${source.pin}`);
  }
}

/** A map with entries in the payload of one side belongs to that side alone. */
function shareByName(
  maps: ReadonlyMap<string, BpfMap>,
  { share, otherSides = [], fill }: Pick<ObjectRequest, 'share' | 'otherSides' | 'fill'>,
): void {
  const own = new Set([...share.map(({ map }) => mapSegment(map)), ...fill.map(({ name }) => mapSegment(name))]);
  for (const [name, map] of maps) {
    const isAsked = libbpf().bpf_map__pin_path(map) !== null && libbpf().bpf_map__type(map) !== PROG_ARRAY;
    for (const side of isAsked && !own.has(mapSegment(name)) ? otherSides : []) {
      using existing = tryOpenPin('map', mapPin(side, name));
      if (existing === undefined || differenceOf(declaredMap(map), mapInfo(existing.number)) !== undefined) continue;
      check(libbpf().bpf_map__reuse_fd(map, existing.number), `Cannot share the map ${name} with another hook`);
      break;
    }
  }
}

/** libbpf accepts any map, and the program would then misread it. */
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

async function loadIntoKernel(object: OpenObject, request: ObjectRequest): Promise<void> {
  using messages = Messages.collect();
  const result = await inBackground(libbpf().bpf_object__load, object.pointer);
  if (result < 0)
    throw refusedMap(object, result, messages.text) ?? loadError(programName(request.dir), result, messages.text);
}

/** The error if it was a map that the kernel refused: what is declared, and what the kernel takes. */
function refusedMap(object: OpenObject, errno: number, text: string): AgentError | undefined {
  const map = object.maps().get(refusedMapName(text) ?? '');
  if (map === undefined || Math.abs(errno) === EPERM) return undefined;
  const declared = { ...declaredMap(map), flags: libbpf().bpf_map__map_flags(map) };
  const message = `The kernel does not create the map ${declared.name} (${errnoWords(errno)}): ${whyRefused(declared, errno)}`;
  return new AgentError('LOAD_FAILED', message, {
    path: 'object_file',
    detail: text.trim().split('\n').slice(-DETAIL_LINES).join('\n'),
  });
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

function pinMaps(
  program: BpfProgram,
  maps: ReadonlyMap<string, BpfMap>,
  { file }: OpenObject,
  { dir, slotMap }: ObjectRequest,
): void {
  const bpf = libbpf();
  const used = mapIdsOf(bpf.bpf_program__fd(program));
  mkdirSync(mapsFolder(dir));
  for (const [name, map] of maps) {
    const fd = bpf.bpf_map__fd(map);
    if (name === slotMap) pin(fd, slotPin(dir));
    // Slots of the object's other programs are created with it, but this program does not use them. A PROG_ARRAY empties
    // itself when nothing but programs use it, so those of the object's own tail calls are pinned, whoever calls them.
    else if (bpf.bpf_map__type(map) !== PROG_ARRAY || used.has(mapInfo(fd).id) || file.tailCalls.has(name)) {
      pin(fd, mapPin(dir, name));
    }
  }
}

/** `…/progs/<iface>/<program>/<version>/<load>`. */
function programName(dir: string): string {
  return dir.split('/').at(-3) ?? dir;
}
