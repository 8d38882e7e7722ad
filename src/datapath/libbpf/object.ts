import koffi from 'koffi';
import { isPerCpuKind } from '../../domain/mapvalue.js';
import type { MapInfo } from '../../domain/observed.js';
import { AgentError } from '../../errors.js';
import { checkObjectFile } from '../bpf-elf.js';
import { type BtfType, readBtf } from '../btf.js';
import { layoutsIn, orUndefined } from '../btf-layout.js';
import { firstComplaint } from './complaints.js';
import { errnoWords } from './errno.js';
import { type BpfMap, type BpfObject, type BpfProgram, lastErrno, libbpf } from './ffi.js';
import { Messages } from './messages.js';

/** An object file as libbpf has read it; nothing of it is in the kernel until it is loaded. */
export class OpenObject implements Disposable {
  readonly pointer: BpfObject;
  #types: readonly BtfType[] | undefined;

  constructor(pointer: BpfObject) {
    this.pointer = pointer;
  }

  /** Releases what libbpf holds, descriptors of programs and maps among it. What is pinned stays. */
  [Symbol.dispose](): void {
    libbpf().bpf_object__close(this.pointer);
  }

  programs(): BpfProgram[] {
    return [...iterate((previous: BpfProgram | null) => libbpf().bpf_object__next_program(this.pointer, previous))];
  }

  /** What keys and values of a map mean, by the object's BTF. */
  layoutsOf(map: BpfMap): Pick<MapInfo, 'key' | 'value'> {
    const bpf = libbpf();
    return layoutsIn(this.#knownTypes(), bpf.bpf_map__btf_key_type_id(map), bpf.bpf_map__btf_value_type_id(map));
  }

  /** Maps as they are declared, by name. Those for global data are among them. */
  maps(): ReadonlyMap<string, BpfMap> {
    const maps = iterate((previous: BpfMap | null) => libbpf().bpf_object__next_map(this.pointer, previous));
    return new Map([...maps].map((map) => [libbpf().bpf_map__name(map), map]));
  }

  /** Read once. None where they are damaged: whether the object is loaded all the same is the kernel's word. */
  #knownTypes(): readonly BtfType[] {
    this.#types ??= orUndefined(() => readTypes(this.pointer)) ?? [];
    return this.#types;
  }
}

/** Every map of an object may describe its values, so this is for all of them. @throws RangeError as {@link readBtf} */
function readTypes(object: BpfObject): readonly BtfType[] {
  const [btf, size] = [libbpf().bpf_object__btf(object), Buffer.alloc(4)];
  const data = btf === null ? null : libbpf().btf__raw_data(btf, size);
  return data === null ? [] : readBtf(Buffer.from(koffi.view(data, size.readUInt32LE())));
}

/** @throws AgentError OBJECT_INVALID saying what libbpf could not read */
export function openObject(path: string): OpenObject {
  checkObjectFile(path);
  using messages = Messages.collect();
  const pointer = libbpf().bpf_object__open_file(path, null);
  if (pointer !== null) return new OpenObject(pointer);
  const words = errnoWords(lastErrno());
  const silence = `it does not say why (${words}); compile it anew with clang -target bpf -g, and do not strip its symbols`;
  const complaint = firstComplaint(messages.text) ?? silence;
  const detail = messages.text.trim() === '' ? words : messages.text.trim();
  throw new AgentError('OBJECT_INVALID', `libbpf cannot read the object file: ${complaint}`, { detail });
}

/** What an object declares of a map; it has no id before it is loaded. */
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
  };
}

function* iterate<Item>(next: (previous: Item | null) => Item | null): Generator<Item> {
  for (let item = next(null); item !== null; item = next(item)) yield item;
}
