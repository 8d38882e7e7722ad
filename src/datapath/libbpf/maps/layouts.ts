import type { MapInfo } from '../../../domain/observed.js';
import { type BtfType, declaredMapNames, readBtf } from '../../btf/btf.js';
import { declaredLayouts } from '../../btf/declared.js';
import { layoutsIn, orUndefined } from '../../btf/layout.js';
import { Fd } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { btfData, mapTypes, programBtf } from '../abi/info.js';

type Layouts = Pick<MapInfo, 'key' | 'value'>;

/** With more entries than this, the cache is cleared. */
const MOST_KNOWN = 1000;

/** The kernel truncates names to this many characters (BPF_OBJ_NAME_LEN in include/uapi/linux/bpf.h). */
const LONGEST_NAME = 15;

/** The layouts of keys and values of maps. Each type is read only once, since every observation needs all of them. */
export class MapLayouts {
  /** By the ids of BTF and types, which the kernel does not reuse. */
  readonly #known = new Map<string, Layouts>();

  /**
   * From the map's BTF in the kernel, or else from that of a program which was loaded with it. Empty if neither
   * describes the map.
   *
   * @param name the map's name in its pin path
   */
  of(mapFd: number, name: string, programFd: number | undefined): Layouts {
    const { btfId, keyType, valueType } = mapTypes(mapFd);
    if (btfId !== 0)
      return this.#once(`${btfId} ${keyType} ${valueType}`, () => layoutsIn(typesOf(btfId), keyType, valueType));
    const ofProgram = programFd === undefined ? 0 : programBtf(programFd);
    return ofProgram === 0 ? {} : this.#once(`${ofProgram} ${name}`, () => declaredLayouts(typesOf(ofProgram), name));
  }

  #once(id: string, read: () => Layouts): Layouts {
    const layouts = this.#known.get(id) ?? read();
    if (this.#known.size >= MOST_KNOWN) this.#known.clear();
    this.#known.set(id, layouts);
    return layouts;
  }
}

/** A map's name as its object declares it; the kernel's truncated name if it cannot be determined. */
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
  // A newer kernel may have BTF kinds that are unknown here.
  return orUndefined(() => readBtf(btfData(btf.number))) ?? [];
}
