import type { MapInfo } from '../../domain/observed.js';
import { type BtfType, declaredMapNames, readBtf } from '../btf.js';
import { layoutsIn, orUndefined } from '../btf-layout.js';
import { Fd } from './fd.js';
import { libbpf } from './ffi.js';
import { btfData, mapTypes } from './info.js';

type Layouts = Pick<MapInfo, 'key' | 'value'>;

/** By the ids of BTF and types, which the kernel does not use again for anything else. */
const known = new Map<string, Layouts>();
const MOST_KNOWN = 1000;

/** Names in the kernel are cut off behind so many characters (BPF_OBJ_NAME_LEN in include/uapi/linux/bpf.h). */
const LONGEST_NAME = 15;

/** What a map's keys and values mean, by the BTF that the kernel has of it; nothing where it has none, or hands none out. */
export function layoutsOf(mapFd: number): Layouts {
  const { btfId, keyType, valueType } = mapTypes(mapFd);
  if (btfId === 0) return {};
  const id = `${btfId} ${keyType} ${valueType}`;
  const layouts = known.get(id) ?? layoutsIn(typesOf(btfId), keyType, valueType);
  if (known.size >= MOST_KNOWN) known.clear();
  known.set(id, layouts);
  return layouts;
}

/** A map's name as its object declares it; as the kernel has cut it off where that cannot be told. */
export function declaredName(mapFd: number): string {
  const { name, btfId } = mapTypes(mapFd);
  if (name.length < LONGEST_NAME || btfId === 0) return name;
  const [candidate, ...others] = declaredMapNames(typesOf(btfId)).filter((declared) => declared.startsWith(name));
  return candidate === undefined || others.length > 0 ? name : candidate;
}

function typesOf(btfId: number): readonly BtfType[] {
  const fd = libbpf().bpf_btf_get_fd_by_id(btfId);
  if (fd < 0) return [];
  using btf = new Fd(fd);
  // A newer kernel may have kinds of types that are not known here.
  return orUndefined(() => readBtf(btfData(btf.number))) ?? [];
}
