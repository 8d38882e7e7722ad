import type { DeliveryHead } from '../bus/delivery.js';
import type { CommandKey, Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import { keyOf } from './reading.js';

/** A command on which the agent has died this often is put aside. */
export const QUARANTINE_AFTER = 3;

/**
 * Counts how many runs of the agent have begun a command, so that one on which it dies again and again is found out. A fault that the agent
 * lives through, as of its disk, does not count, nor does a run that ends in order.
 */
export class Attempts {
  readonly #journal: Journal;
  /** The commands that this run has begun and not finished, and which attempt it is for each. */
  readonly #begun = new Map<string, { readonly key: CommandKey; readonly attempt: number }>();

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** Notes that a command is about to take effect. @returns which attempt it is */
  async begin(delivery: DeliveryHead): Promise<number> {
    const key = keyOf(delivery);
    const known = this.#begun.get(nameOf(key));
    if (known !== undefined) return known.attempt;
    const attempt = await this.#journal.begin(key, delivery.verb);
    this.#begun.set(nameOf(key), { key, attempt });
    return attempt;
  }

  /** Forgets a command that was answered. */
  finished(delivery: DeliveryHead): void {
    this.#begun.delete(nameOf(keyOf(delivery)));
  }

  /** To be called when this run ends in order: what it has begun and not finished was not the death of it. */
  async takeBack(log: Logger): Promise<void> {
    for (const { key } of this.#begun.values()) {
      try {
        await this.#journal.takeBack(key);
      } catch (error) {
        log.warn({ op: key.id, err: error }, 'the attempt at a command stays counted as one that ended the agent');
      }
    }
    this.#begun.clear();
  }
}

function nameOf({ id, storedAt }: CommandKey): string {
  return `${id} ${storedAt}`;
}
