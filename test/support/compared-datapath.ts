import assert from 'node:assert/strict';
import { LibbpfDatapath, type LibbpfDatapathOptions } from '../../src/datapath/libbpf/datapath.js';
import type { Observed } from '../../src/domain/observed.js';

/** Interfaces are never remembered, and other tests make and remove some meanwhile. */
function ofPins({ interfaces: _interfaces, ...pins }: Observed): Omit<Observed, 'interfaces'> {
  return pins;
}

/**
 * The kernel's datapath, whose every observation is compared with one that remembers nothing. Nobody else may change the
 * bpffs or the hooks meanwhile.
 */
export class ComparedDatapath extends LibbpfDatapath {
  readonly #options: LibbpfDatapathOptions;

  constructor(options: LibbpfDatapathOptions) {
    super(options);
    this.#options = options;
  }

  override async observe(cgroups: readonly string[] = []): Promise<Observed> {
    const remembering = super.observe(cgroups);
    const fresh = new LibbpfDatapath(this.#options);
    const reading = fresh.observe(cgroups);
    const [remembered, read] = await Promise.all([remembering, reading]);
    await fresh.close();
    assert.deepEqual(ofPins(remembered), ofPins(read), 'what is remembered is not what is there');
    return remembered;
  }
}
