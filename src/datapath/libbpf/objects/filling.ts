import koffi from 'koffi';
import { encodeMapArgs, fillingOf, isConstant, named, namesThere } from '../../../domain/mapvalue.js';
import { checkMonitors, keysToMake } from '../../../domain/monitor.js';
import type { MapInfo } from '../../../domain/observed.js';
import { mapSegment } from '../../../domain/pins.js';
import { AgentError } from '../../../errors.js';
import type { LocatedMapArgs } from '../../../steps/step.js';
import type { LoadRequest, MapChange } from '../../datapath.js';
import { check } from '../abi/errno.js';
import { Fd } from '../abi/fd.js';
import { type BpfMap, libbpf } from '../abi/ffi.js';
import { mapInfo } from '../abi/info.js';
import { interfaces } from '../abi/interfaces.js';
import { MapLayouts } from '../maps/layouts.js';
import type { OpenObject } from './object.js';

/*
 * What the maps of a load begin with: the entries of `map_args`, and the keys that are monitored. Global variables of the
 * object are set before it is loaded, all others right after.
 */

/** A map of an object that is open, as it is declared. */
export interface MapToFill {
  readonly map: BpfMap;
  readonly info: MapInfo;
}

/** What is written to one map of an object. */
export interface Filling extends MapToFill {
  readonly change: MapChange;
  /** Where the request for it is in the program's payload: `map_args.0`. */
  readonly path: string;
  /** Undefined for keys that are made. */
  readonly args: LocatedMapArgs | undefined;
}

/** Encodes the entries before anything is loaded, so that an invalid value costs nothing. */
export function encodeFill(declared: readonly MapToFill[], { fill }: Pick<LoadRequest, 'fill'>): Filling[] {
  const infos = declared.map(({ info }) => info);
  return fill.map((args) => {
    const { path, name } = args;
    const found = declared.find(({ info }) => info === named(infos, name)?.map);
    if (found === undefined) {
      const message = `The object has no map ${name}; it has ${namesThere(infos)}`;
      throw new AgentError('MAP_NOT_FOUND', message, { path: `${path}.name` });
    }
    return { ...found, path, args, change: { set: fillingOf(found.info, args, interfaces()), remove: [] } };
  });
}

/**
 * The keys that must exist before the first packet, in maps that are new. Maps that are taken over are live: their
 * entries are changed by the commit, not before.
 */
export function makeKeys(
  declared: readonly MapToFill[],
  { monitors, share, probes }: Pick<LoadRequest, 'monitors' | 'share' | 'probes'>,
): Filling[] {
  const infos = declared.map(({ info }) => info);
  checkMonitors(infos, monitors, '');
  const taken = new Set(share.map(({ map }) => mapSegment(map)));
  return keysToMake(infos, monitors).flatMap(({ map: info, keys: make }): Filling[] => {
    const { map } = declared.find((one) => one.info === info)!;
    // A load that is only tried leaves the maps alone that it shares by name.
    const isTried = probes === 'load' && libbpf().bpf_map__fd(map) >= 0;
    if (isTried || taken.has(mapSegment(info.name))) return [];
    return [{ map, info, path: 'monitor_maps', args: undefined, change: { set: [], remove: [], make } }];
  });
}

/** Whether a map gets its content before the load: libbpf makes it, and puts the initial values into it. */
export function isInitial({ map }: Pick<Filling, 'map'>): boolean {
  return libbpf().bpf_map__initial_value(map, Buffer.alloc(8)) !== null && libbpf().bpf_map__fd(map) < 0;
}

/** Sets the variables of a section that is not loaded yet. */
export function setInitialValue({ map, info, change, path }: Filling): void {
  const size = Buffer.alloc(8);
  const initial = libbpf().bpf_map__initial_value(map, size);
  if (initial === null) return;
  const data = Buffer.from(koffi.view(initial, info.valueSize).slice(0));
  for (const { value, offset = 0 } of change.set) data.set(Buffer.from(value, 'hex'), offset);
  const failed = `Cannot set the variables of ${info.name}`;
  atField(path, () => check(libbpf().bpf_map__set_initial_value(map, data, data.length), failed));
}

/**
 * A descriptor for writing and reading. The one that libbpf has may be for one of them only, as the map's flags say; they
 * are about other programs than the one that loads it.
 */
export function writableFd(map: BpfMap): Fd {
  const { id } = mapInfo(libbpf().bpf_map__fd(map));
  return new Fd(check(libbpf().bpf_map_get_fd_by_id(id), `Cannot open the map ${libbpf().bpf_map__name(map)}`));
}

/**
 * Checks that what was encoded by the object's types can be encoded by what the kernel has kept of them: later on, entries
 * are compared and changed without the object.
 *
 * @throws AgentError MAP_VALUE_INVALID
 */
export function checkReadable(object: OpenObject, fill: readonly Filling[]): void {
  const program = object
    .programs()
    .map((one) => libbpf().bpf_program__fd(one))
    .find((fd) => fd >= 0);
  const layouts = new MapLayouts();
  for (const { map, info, args } of fill) {
    if (args === undefined || (info.key === undefined && info.value === undefined)) continue;
    const { key: _key, value: _value, ...plain } = info;
    const kept = { ...plain, ...layouts.of(libbpf().bpf_map__fd(map), mapSegment(info.name), program) };
    if (isConstant(info) || sameEncoding(info, kept, args)) continue;
    const message = `The kernel does not keep the types of ${info.name}, so that its entries could not be compared later`;
    const advice = 'give its keys and values byte by byte (0x…)';
    throw new AgentError('MAP_VALUE_INVALID', `${message}; ${advice}`, { path: `${args.path}.args` });
  }
}

function sameEncoding(declared: MapInfo, kept: MapInfo, args: LocatedMapArgs): boolean {
  const encode = (map: MapInfo) => JSON.stringify(encodeMapArgs(map, args, args.path, interfaces()));
  try {
    return encode(declared) === encode(kept);
  } catch (error) {
    if (error instanceof AgentError) return false;
    throw error;
  }
}

/** Adds the field to an error that has none. */
export function atField<Made>(path: string, make: () => Made): Made {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof AgentError) || error.path !== undefined) throw error;
    const { code, message, detail } = error;
    throw new AgentError(code, message, { cause: error, path, ...(detail !== undefined && { detail }) });
  }
}
