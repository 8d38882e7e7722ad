import type { DeliveryHead } from '../bus/delivery.js';
import type { CommandKey, Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import { keyOf } from './reading.js';

/** A command is quarantined after the agent has died on it this often. */
export const QUARANTINE_AFTER = 3;

/**
 * Counts how many runs of the agent have begun a command. This detects a command on which the agent dies again and
 * again. A fault that the agent survives, such as a disk error, does not count, and neither does a run that ends in
 * order.
 */
export class Attempts {
  readonly #journal: Journal;
  /** The commands that this run has begun and not finished, with the number of the attempt. */
  readonly #begun = new Map<string, { readonly key: CommandKey; readonly attempt: number }>();

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** Records that a command is about to take effect. @returns the number of the attempt */
  async begin(delivery: DeliveryHead): Promise<number> {
    const key = keyOf(delivery);
    const known = this.#begun.get(nameOf(key));
    if (known !== undefined) return known.attempt;
    const attempt = await this.#journal.begin(key, delivery.verb);
    this.#begun.set(nameOf(key), { key, attempt });
    return attempt;
  }

  /** Forgets an answered command. */
  finished(delivery: DeliveryHead): void {
    this.#begun.delete(nameOf(keyOf(delivery)));
  }

  /** Call this when the run ends in order: its unfinished commands do not count as attempts on which the agent died. */
  async takeBack(log: Logger): Promise<void> {
    for (const { key } of this.#begun.values()) {
      try {
        await this.#journal.takeBack(key);
      } catch (error) {
        log.warn(
          { op: key.id, err: error },
          'cannot withdraw the attempt at a command; it counts as one on which the agent died',
        );
      }
    }
    this.#begun.clear();
  }
}

function nameOf({ id, storedAt }: CommandKey): string {
  return `${id} ${storedAt}`;
}
