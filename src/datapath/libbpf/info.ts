import koffi from 'koffi';
import { isPerCpuKind } from '../../domain/mapvalue.js';
import type { MapInfo } from '../../domain/observed.js';
import type { RunStats } from '../datapath.js';
import { check } from './errno.js';
import { libbpf } from './ffi.js';

/*
 * What the kernel says of its objects: `struct bpf_prog_info`, `bpf_map_info` and `bpf_link_info` of
 * include/uapi/linux/bpf.h. The kernel fills in as much as it is given room for, so only the head of each is asked for.
 */

/** `enum bpf_link_type`. */
export const BPF_LINK_TYPE_XDP = 6;
export const BPF_LINK_TYPE_TCX = 11;

export interface ProgramInfo {
  readonly id: number;
  /** `enum bpf_prog_type`. */
  readonly type: number;
  /** At most 15 characters of the function's name. */
  readonly name: string;
}

export interface LinkInfo {
  readonly id: number;
  readonly type: number;
  readonly programId: number;
  /** Of an XDP or TCX link: 0 once it is detached or its interface is gone. */
  readonly ifindex: number;
}

export function programInfo(fd: number): ProgramInfo {
  const info = infoOf(fd, Buffer.alloc(80));
  const name = info.subarray(64, 80);
  return {
    type: info.readUInt32LE(0),
    id: info.readUInt32LE(4),
    name: name.toString('latin1', 0, Math.max(0, name.indexOf(0))),
  };
}

/** How often the kernel has run a program, and for how long in all; see `Datapath.runStats`. */
export function programRuns(fd: number): RunStats {
  const info = infoOf(fd, Buffer.alloc(208));
  return { count: Number(info.readBigUInt64LE(200)), timeNs: Number(info.readBigUInt64LE(192)) };
}

/** Ids of the maps that a program's code refers to. */
export function mapIdsOf(fd: number): ReadonlySet<number> {
  const count = infoOf(fd, Buffer.alloc(80)).readUInt32LE(52);
  const ids = Buffer.alloc(count * 4);
  const request = Buffer.alloc(80);
  request.writeUInt32LE(count, 52);
  if (count > 0) request.writeBigUInt64LE(koffi.address(ids), 56);
  infoOf(fd, request);
  return new Set(new Uint32Array(ids.buffer, ids.byteOffset, count));
}

/** The kernel keeps only 15 characters of a map's name, so it is left to the caller. */
export function mapInfo(fd: number): Omit<MapInfo, 'name'> {
  const info = infoOf(fd, Buffer.alloc(80));
  const type = info.readUInt32LE(0);
  return {
    type,
    id: info.readUInt32LE(4),
    keySize: info.readUInt32LE(8),
    valueSize: info.readUInt32LE(12),
    maxEntries: info.readUInt32LE(16),
    ...(isPerCpuKind(type) && { cpus: libbpf().libbpf_num_possible_cpus() }),
  };
}

/** What the kernel keeps of a map's name, and where its BTF describes it; 0 for what is not described. */
export function mapTypes(fd: number): { name: string; btfId: number; keyType: number; valueType: number } {
  const info = infoOf(fd, Buffer.alloc(80));
  return {
    name: info.toString('latin1', 24, info.indexOf(0, 24)),
    btfId: info.readUInt32LE(64),
    keyType: info.readUInt32LE(68),
    valueType: info.readUInt32LE(72),
  };
}

/** The BTF that a descriptor of one stands for: `struct bpf_btf_info`. */
export function btfData(fd: number): Buffer {
  const data = Buffer.alloc(infoOf(fd, Buffer.alloc(16)).readUInt32LE(8));
  const request = Buffer.alloc(16);
  request.writeBigUInt64LE(koffi.address(data), 0);
  request.writeUInt32LE(data.length, 8);
  infoOf(fd, request);
  return data;
}

export function linkInfo(fd: number): LinkInfo {
  const info = infoOf(fd, Buffer.alloc(24));
  return {
    type: info.readUInt32LE(0),
    id: info.readUInt32LE(4),
    programId: info.readUInt32LE(8),
    ifindex: info.readUInt32LE(16),
  };
}

function infoOf(fd: number, info: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(info.length);
  check(libbpf().bpf_obj_get_info_by_fd(fd, info, length), 'Cannot ask the kernel about a BPF object');
  return info;
}
