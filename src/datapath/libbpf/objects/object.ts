import koffi from 'koffi';
import { isPerCpuKind } from '../../../domain/map-types.js';
import type { MapInfo } from '../../../domain/observed.js';
import { AgentError } from '../../../errors.js';
import { type BtfType, readBtf } from '../../btf/btf.js';
import { layoutsIn, orUndefined } from '../../btf/layout.js';
import { type ObjectFile, readObjectFile } from '../../elf/bpf-elf.js';
import { errnoWords } from '../abi/errno.js';
import { type BpfMap, type BpfObject, type BpfProgram, lastErrno, libbpf } from '../abi/ffi.js';
import { accessOf } from '../abi/info.js';
import { Messages } from './libbpf-print.js';
import { firstComplaint } from './verifier-log.js';

/** An object file as libbpf has parsed it. Nothing of it is in the kernel until it is loaded. */
export class OpenObject implements Disposable {
  readonly pointer: BpfObject;
  readonly file: ObjectFile;
  #types: readonly BtfType[] | undefined;

  constructor(pointer: BpfObject, file: ObjectFile) {
    this.pointer = pointer;
    this.file = file;
  }

  /** Releases what libbpf holds, including descriptors of programs and maps. Pinned objects stay. */
  [Symbol.dispose](): void {
    libbpf().bpf_object__close(this.pointer);
  }

  programs(): BpfProgram[] {
    return [...iterate((previous: BpfProgram | null) => libbpf().bpf_object__next_program(this.pointer, previous))];
  }

  /** The layouts of a map's keys and values, from the object's BTF. */
  layoutsOf(map: BpfMap): Pick<MapInfo, 'key' | 'value'> {
    const bpf = libbpf();
    return layoutsIn(this.#knownTypes(), bpf.bpf_map__btf_key_type_id(map), bpf.bpf_map__btf_value_type_id(map));
  }

  /** Maps as declared, by name, including those for global data. */
  maps(): ReadonlyMap<string, BpfMap> {
    const maps = iterate((previous: BpfMap | null) => libbpf().bpf_object__next_map(this.pointer, previous));
    return new Map([...maps].map((map) => [libbpf().bpf_map__name(map), map]));
  }

  /** Read once. Empty if the types are damaged: the kernel decides whether the object loads nevertheless. */
  #knownTypes(): readonly BtfType[] {
    this.#types ??= orUndefined(() => readTypes(this.pointer)) ?? [];
    return this.#types;
  }
}

/** Read once for all maps, since each of them may use these types. @throws RangeError as {@link readBtf} */
function readTypes(object: BpfObject): readonly BtfType[] {
  const [btf, size] = [libbpf().bpf_object__btf(object), Buffer.alloc(4)];
  const data = btf === null ? null : libbpf().btf__raw_data(btf, size);
  return data === null ? [] : readBtf(Buffer.from(koffi.view(data, size.readUInt32LE())));
}

/**
 * Says what libbpf begins to do, in words that continue "while it was": `opening the object`. Called before each thing
 * that may end the process.
 */
export type ReportProgress = (doing: string) => void;

/** @throws AgentError OBJECT_INVALID saying what libbpf could not read */
export function openObject(path: string, report: ReportProgress): OpenObject {
  const file = readObjectFile(path);
  report('opening the object');
  using messages = Messages.collect();
  const pointer = libbpf().bpf_object__open_file(path, null);
  if (pointer !== null) return new OpenObject(pointer, file);
  const words = errnoWords(lastErrno());
  const silence = `libbpf gives no reason (${words}); compile it again with clang -target bpf -g, and do not strip its symbols`;
  const complaint = firstComplaint(messages.text) ?? silence;
  const detail = messages.text.trim() === '' ? words : messages.text.trim();
  throw new AgentError('OBJECT_INVALID', `libbpf cannot read the object file: ${complaint}`, { detail });
}

/** A map as the object declares it; it has no id before it is loaded. */
export function declaredMap(map: BpfMap): MapInfo {
  const bpf = libbpf();
  const type = bpf.bpf_map__type(map);
  return {
    name: bpf.bpf_map__name(map),
    id: 0,
    type,
    keySize: bpf.bpf_map__key_size(map),
    valueSize: bpf.bpf_map__value_size(map),
    maxEntries: bpf.bpf_map__max_entries(map),
    ...(isPerCpuKind(type) && { cpus: bpf.libbpf_num_possible_cpus() }),
    ...accessOf(bpf.bpf_map__map_flags(map)),
  };
}

function* iterate<Item>(next: (previous: Item | null) => Item | null): Generator<Item> {
  for (let item = next(null); item !== null; item = next(item)) yield item;
}
