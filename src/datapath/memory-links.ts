import { type Hook, hookKey, programKind, sameHook } from '../domain/hook.js';
import type { Attachment } from '../domain/observed.js';
import type { Place } from '../domain/step.js';
import { AgentError } from '../errors.js';
import type { KernelIds, XdpMode } from './datapath.js';

interface MemoryLink {
  readonly id: number;
  readonly hook: Hook;
  programId: number;
}

export interface MemoryLinksOptions {
  /** Interfaces that exist, by name. */
  readonly interfaces: ReadonlyMap<string, number>;
  /** How XDP attaches. Every driver here can run it. */
  readonly xdp?: XdpMode;
}

/** The links of the datapath without a kernel. Programs are named by their ids. */
export class MemoryLinks {
  readonly #options: MemoryLinksOptions;
  readonly #nextId: () => number;
  readonly #byPin = new Map<string, MemoryLink>();
  /** In the order in which packets meet them. */
  readonly #order: MemoryLink[] = [];

  constructor(options: MemoryLinksOptions, nextId: () => number) {
    this.#options = options;
    this.#nextId = nextId;
  }

  /** See `Datapath.attach`. */
  attach(hook: Hook, programId: number, pin: string, place: Place | null): void {
    if (!this.#options.interfaces.has(hook.iface)) {
      throw new AgentError('INTERFACE_NOT_FOUND', `This host has no interface ${hook.iface}`);
    }
    const standing = this.#byPin.get(pin);
    const others = this.#order.filter((other) => other !== standing && sameHook(other.hook, hook));
    const isXdp = programKind(hook.direction) === 'xdp';
    const holder = isXdp ? others[0] : others.find((other) => other.programId === programId);
    if (holder !== undefined) {
      throw new AgentError('HOOK_OCCUPIED', `${hookKey(hook)} is held by program ${holder.programId}`);
    }
    if (standing !== undefined) {
      standing.programId = programId;
      return;
    }
    const at = place === null ? this.#order.length : this.#indexOf(place);
    const attached = { id: this.#nextId(), hook, programId };
    this.#order.splice(at, 0, attached);
    this.#byPin.set(pin, attached);
  }

  /** See `Datapath.retarget`. */
  retarget(from: string, to: string, programId: number): void {
    const link = this.#byPin.get(from) ?? this.#byPin.get(to);
    if (link === undefined) throw new AgentError('KERNEL', `There is no link at ${from}`);
    link.programId = programId;
    this.#byPin.delete(from);
    this.#byPin.set(to, link);
  }

  /** See `Datapath.detach`. */
  detach(pin: string): void {
    const standing = this.#order.indexOf(this.#byPin.get(pin) as MemoryLink);
    if (standing !== -1) this.#order.splice(standing, 1);
    this.#byPin.delete(pin);
  }

  /** In the order in which packets meet them, each with its hook. */
  attachments(): { readonly hook: Hook; readonly attachment: Attachment }[] {
    const pins = new Map([...this.#byPin].map(([pin, link]) => [link, pin]));
    return this.#order.flatMap((link) => {
      const pin = pins.get(link);
      return pin === undefined ? [] : [{ hook: link.hook, attachment: this.#attachment(pin, link) }];
    });
  }

  /** Those of the ids that are pinned still, each in words. */
  held({ links }: KernelIds): string[] {
    return [...this.#byPin].flatMap(([pin, { id }]) => (links.includes(id) ? [`${id} is held by the pin ${pin}`] : []));
  }

  #attachment(linkPin: string, { id: linkId, hook, programId }: MemoryLink): Attachment {
    const attached = this.#options.interfaces.has(hook.iface);
    const common = { linkPin, linkId, programId, attached };
    if (hook.direction !== 'xdpingress') return { kind: 'tcx', ...common };
    const mode = this.#options.xdp === 'generic' ? 'generic' : 'native';
    return { kind: 'xdp', ...common, ...(attached && { mode }) };
  }

  #indexOf({ side, link }: Place): number {
    const index = this.#order.indexOf(this.#byPin.get(link) as MemoryLink);
    if (index === -1) throw new AgentError('ATTACH_FAILED', `There is no link at ${link} to attach next to`);
    return side === 'behind' ? index + 1 : index;
  }
}
