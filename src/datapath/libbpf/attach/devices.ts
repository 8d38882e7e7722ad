import type { XdpRunMode } from '../../../domain/observed.js';
import { type InterfaceInfo, listInterfaces } from '../abi/interfaces.js';
import { interfacesWithFilters } from './qdiscs.js';
import { xdpProgramsIn } from './xdp-query.js';

/** The host's network interfaces at one moment, read by as few requests as possible. It serves one observation. */
export class Devices {
  /** Name to index. */
  readonly interfaces: ReadonlyMap<string, number>;
  readonly #info: ReadonlyMap<number, InterfaceInfo>;
  #filtering: ReadonlySet<number> | undefined;

  /** @throws AgentError KERNEL if the interfaces cannot be listed */
  constructor() {
    const all = listInterfaces();
    this.interfaces = new Map(all.map(({ name, index }) => [name, index]));
    this.#info = new Map(all.map((info) => [info.index, info]));
  }

  /** The ids of the XDP programs of an interface, by where they run. */
  xdpPrograms(ifindex: number): ReadonlyMap<XdpRunMode, number> {
    const info = this.#info.get(ifindex);
    return info === undefined ? new Map() : xdpProgramsIn(info);
  }

  /** Whether an interface has a qdisc at which TC filters of incoming or outgoing packets can be. */
  mayHaveFilters(ifindex: number): boolean {
    this.#filtering ??= interfacesWithFilters();
    return this.#filtering.has(ifindex);
  }
}
