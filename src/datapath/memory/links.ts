import { ATTACH_POINTS } from '../../domain/attach-points/registry.js';
import { absence, absenceCode, attachPointOf, type ChainHook, hookKey, sameHook } from '../../domain/hook.js';
import type { Attachment } from '../../domain/observed.js';
import { AgentError } from '../../errors.js';
import type { LinkPosition } from '../../steps/step.js';
import type { KernelIds, XdpMode } from '../datapath.js';

interface MemoryLink {
  readonly id: number;
  readonly hook: ChainHook;
  programId: number;
}

export interface MemoryLinksOptions {
  /** Interfaces that exist, by name. */
  readonly interfaces: ReadonlyMap<string, number>;
  /** How XDP attaches. Every driver here supports it. */
  readonly xdp?: XdpMode;
}

/** The links of the datapath without a kernel. Programs are identified by their ids. */
export class MemoryLinks {
  readonly #options: MemoryLinksOptions;
  readonly #nextId: () => number;
  readonly #byPin = new Map<string, MemoryLink>();
  /** In the order in which packets pass them. */
  readonly #order: MemoryLink[] = [];

  constructor(options: MemoryLinksOptions, nextId: () => number) {
    this.#options = options;
    this.#nextId = nextId;
  }

  /** See `Datapath.attach`. */
  attach(hook: ChainHook, programId: number, pin: string, place: LinkPosition | null): void {
    if (!this.#isPresent(hook)) throw new AgentError(absenceCode(hook), absence(hook));
    const standing = this.#byPin.get(pin);
    const others = this.#order.filter((other) => other !== standing && sameHook(other.hook, hook));
    const isOnly = attachPointOf(hook).order === 'never';
    const holder = isOnly ? others[0] : others.find((other) => other.programId === programId);
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
    if (link === undefined) throw new AgentError('KERNEL', `No link is pinned at ${from}`);
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

  /** In the order in which packets pass them, each with its hook. */
  attachments(): { readonly hook: ChainHook; readonly attachment: Attachment }[] {
    const pins = new Map([...this.#byPin].map(([pin, link]) => [link, pin]));
    return this.#order.flatMap((link) => {
      const pin = pins.get(link);
      return pin === undefined ? [] : [{ hook: link.hook, attachment: this.#attachment(pin, link) }];
    });
  }

  /** A description of each id in the list that is still pinned. */
  held({ links }: KernelIds): string[] {
    return [...this.#byPin].flatMap(([pin, { id }]) => (links.includes(id) ? [`${id} is held by the pin ${pin}`] : []));
  }

  #attachment(linkPin: string, { id: linkId, hook, programId }: MemoryLink): Attachment {
    const attached = this.#isPresent(hook);
    const common = { linkPin, linkId, programId, attached };
    const [kind] = ATTACH_POINTS[hook.direction].attachments;
    const mode = this.#options.xdp === 'generic' ? 'generic' : 'native';
    return { kind, ...common, ...(kind === 'xdp' && attached && { mode }) };
  }

  /** Here every control group exists. */
  #isPresent(hook: ChainHook): boolean {
    return 'cgroup' in hook || this.#options.interfaces.has(hook.iface);
  }

  #indexOf({ side, link }: LinkPosition): number {
    const index = this.#order.indexOf(this.#byPin.get(link) as MemoryLink);
    if (index === -1) throw new AgentError('ATTACH_FAILED', `No link is pinned at ${link} to attach next to`);
    return side === 'behind' ? index + 1 : index;
  }
}
