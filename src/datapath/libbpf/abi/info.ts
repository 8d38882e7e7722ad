import koffi from 'koffi';
import { isPerCpuKind } from '../../../domain/map-types.js';
import type { MapInfo } from '../../../domain/observed.js';
import type { RunStats } from '../../datapath.js';
import { check } from './errno.js';
import { libbpf } from './ffi.js';
import { BTF_INFO, LINK_INFO, MAP_INFO, PROG_INFO } from './structs.js';

/*
 * What the kernel reports about its objects. It fills only as much as fits into the buffer, so only the head of each
 * structure is requested.
 */

export interface ProgramInfo {
  readonly id: number;
  /** `enum bpf_prog_type`. */
  readonly type: number;
  /** At most 15 characters of the function's name. */
  readonly name: string;
}

export interface LinkInfo {
  readonly id: number;
  /** `enum bpf_link_type`. */
  readonly type: number;
  readonly programId: number;
  /**
   * Index of the interface, or the lower half of the control group’s id; the kernel reports both at the same offset. 0
   * if the link is detached or its interface or group is gone.
   */
  readonly targetId: number;
}

export function programInfo(fd: number): ProgramInfo {
  const info = infoOf(fd, PROG_INFO.make(undefined, PROG_INFO.sizeThrough('name')));
  return {
    type: PROG_INFO.read(info, 'type'),
    id: PROG_INFO.read(info, 'id'),
    name: PROG_INFO.text(info, 'name'),
  };
}

/** How often the kernel has run a program, and the total run time; see `Datapath.runStats`. */
export function programRuns(fd: number): RunStats {
  const info = infoOf(fd, PROG_INFO.make());
  return { count: PROG_INFO.read(info, 'run_cnt'), timeNs: PROG_INFO.read(info, 'run_time_ns') };
}

/** Ids of the maps that a program's code refers to. */
export function mapIdsOf(fd: number): ReadonlySet<number> {
  const head = PROG_INFO.sizeThrough('map_ids');
  const count = PROG_INFO.read(infoOf(fd, PROG_INFO.make(undefined, head)), 'nr_map_ids');
  const ids = new Uint32Array(count);
  const place = count > 0 ? koffi.address(ids) : 0n;
  infoOf(fd, PROG_INFO.make({ nr_map_ids: count, map_ids: place }, head));
  return new Set(ids);
}

/** Without the name: the kernel keeps only 15 characters of it, so the caller determines it. */
export function mapInfo(fd: number): Omit<MapInfo, 'name'> {
  const info = infoOf(fd, MAP_INFO.make(undefined, MAP_INFO.sizeThrough('map_flags')));
  const type = MAP_INFO.read(info, 'type');
  return {
    type,
    id: MAP_INFO.read(info, 'id'),
    keySize: MAP_INFO.read(info, 'key_size'),
    valueSize: MAP_INFO.read(info, 'value_size'),
    maxEntries: MAP_INFO.read(info, 'max_entries'),
    ...(isPerCpuKind(type) && { cpus: libbpf().libbpf_num_possible_cpus() }),
    ...accessOf(MAP_INFO.read(info, 'map_flags')),
  };
}

const BPF_F_RDONLY = 1 << 3;
const BPF_F_WRONLY = 1 << 4;

/** What a map's flags reserve for user space. The kernel holds it only for the descriptor that the creator gets. */
export function accessOf(flags: number): Pick<MapInfo, 'access'> {
  if ((flags & BPF_F_RDONLY) !== 0) return { access: 'read' };
  return (flags & BPF_F_WRONLY) !== 0 ? { access: 'write' } : {};
}

/** Whether the values of a map can be mapped into memory (BPF_F_MMAPABLE), as those of global variables can. */
export function isMappable(fd: number): boolean {
  return (
    (MAP_INFO.read(infoOf(fd, MAP_INFO.make(undefined, MAP_INFO.sizeThrough('map_flags'))), 'map_flags') &
      (1 << 10)) !==
    0
  );
}

/** Id of the BTF that a program was loaded with; 0 for none. */
export function programBtf(fd: number): number {
  return PROG_INFO.read(infoOf(fd, PROG_INFO.make(undefined, PROG_INFO.sizeThrough('btf_id'))), 'btf_id');
}

/** The kernel's truncated name of a map, and where its BTF describes the map; 0 if it does not. */
export function mapTypes(fd: number): { name: string; btfId: number; keyType: number; valueType: number } {
  const info = infoOf(fd, MAP_INFO.make());
  return {
    name: MAP_INFO.text(info, 'name'),
    btfId: MAP_INFO.read(info, 'btf_id'),
    keyType: MAP_INFO.read(info, 'btf_key_type_id'),
    valueType: MAP_INFO.read(info, 'btf_value_type_id'),
  };
}

/** The BTF data behind a BTF descriptor. */
export function btfData(fd: number): Buffer {
  const data = Buffer.alloc(BTF_INFO.read(infoOf(fd, BTF_INFO.make()), 'btf_size'));
  infoOf(fd, BTF_INFO.make({ btf: koffi.address(data), btf_size: data.length }));
  return data;
}

export function linkInfo(fd: number): LinkInfo {
  const info = infoOf(fd, LINK_INFO.make());
  return {
    type: LINK_INFO.read(info, 'type'),
    id: LINK_INFO.read(info, 'id'),
    programId: LINK_INFO.read(info, 'prog_id'),
    targetId: LINK_INFO.read(info, 'xdp.ifindex'),
  };
}

function infoOf(fd: number, info: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(info.length);
  check(
    libbpf().bpf_obj_get_info_by_fd(fd, info, length),
    'Cannot read the information of the kernel about a BPF object',
  );
  return info;
}
