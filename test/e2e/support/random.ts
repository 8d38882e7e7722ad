import { type PackageName, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import type { Lists, Stage } from './stage.js';

/*
 * A stream of random commands and their expected result. The model is independent of the agent's own folding. It knows
 * only the contract: deploy states everything, add adds, delete removes.
 */

export type List = 'xdp_ingress' | 'tc_ingress' | 'tc_egress';
export const LISTS: readonly List[] = ['xdp_ingress', 'tc_ingress', 'tc_egress'];

/** The desired programs at each hook of the stage's interface, in the order of `seq_id`. */
export type Model = Readonly<Record<List, readonly PayloadProgram[]>>;

export const NOTHING: Model = { xdp_ingress: [], tc_ingress: [], tc_egress: [] };

export interface RandomCommand {
  readonly verb: 'deploy' | 'add' | 'delete';
  /** The payload to send: an object, or bytes that are not JSON. */
  readonly payload: unknown;
  /** Whether it cannot be carried out alone. Folded with later commands, it may be part of a result that can. */
  readonly doomed: boolean;
  /** The desired state after the command. */
  readonly effect: (before: Model) => Model;
}

/** Numbers from 0 to 1, the same ones for the same seed (Mulberry32, public domain). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const MARKERS = 5;

/** Makes commands for the stage's interface from random numbers. About one in five cannot be carried out. */
export class RandomCommands {
  readonly #stage: Stage;
  readonly #random: () => number;

  constructor(stage: Stage, random: () => number) {
    this.#stage = stage;
    this.#random = random;
  }

  next(): RandomCommand {
    const dice = this.#random();
    if (dice < 0.4) return this.#deploy();
    if (dice < 0.6) return this.#add();
    if (dice < 0.8) return this.#delete();
    return this.#faulty();
  }

  #deploy(): RandomCommand {
    const model = this.#model();
    return { verb: 'deploy', payload: this.#stage.payload(model), doomed: false, effect: () => model };
  }

  #add(): RandomCommand {
    const list = this.#pick(LISTS);
    const added = this.#programs(list, 1 + this.#below(2));
    return {
      verb: 'add',
      payload: this.#stage.payload({ [list]: added } as Lists<PayloadProgram>),
      doomed: false,
      effect: (before) => {
        const news = added.filter(({ name }) => !before[list].some((present) => present.name === name));
        return { ...before, [list]: inOrder([...before[list], ...news]) };
      },
    };
  }

  #delete(): RandomCommand {
    const list = this.#pick(LISTS);
    const names = this.#programs(list, 1 + this.#below(2)).map(({ name }) => name);
    return {
      verb: 'delete',
      payload: this.#stage.payload({ [list]: names } as Lists<string>),
      doomed: false,
      effect: (before) => ({ ...before, [list]: before[list].filter(({ name }) => !names.includes(name)) }),
    };
  }

  /** A deploy with one fault. The agent finds it in the payload, in the package, or in the kernel. */
  #faulty(): RandomCommand {
    const [some] = this.#programs('xdp_ingress', 1) as [PayloadProgram];
    const first = { ...some, admin_status: 'enabled' } as const;
    const chain = this.#pick([
      [{ ...first, colour: 'blue' }],
      [{ ...first, artifact: 'nowhere.tar.gz' }],
      [{ ...first, entry_function_name: 'nothing' }],
      [first, payloadProgram('broken', { seq_id: 1000 })],
    ]);
    const model = { ...this.#model(), xdp_ingress: chain };
    const payload = this.#stage.payload(model);
    const elsewhere = payload.map((entry) => ({ ...entry, host_name: 'elsewhere' }));
    const torn = Buffer.from(JSON.stringify(payload).slice(0, -1));
    return {
      verb: 'deploy',
      payload: this.#pick([payload, payload, payload, elsewhere, torn]),
      doomed: true,
      effect: () => model,
    };
  }

  #model(): Model {
    return Object.fromEntries(LISTS.map((list) => [list, this.#programs(list, this.#below(4))])) as unknown as Model;
  }

  /** Markers in the order of `seq_id`, each with a random version and number, and sometimes disabled. */
  #programs(list: List, count: number): PayloadProgram[] {
    const kind = list === 'xdp_ingress' ? 'xdp' : 'tc';
    const numbers = shuffled(MARKERS, this.#random).slice(0, count);
    const places = shuffled(20, this.#random).slice(0, count);
    return inOrder(
      numbers.map((number, index) =>
        payloadProgram(`${kind}-mark-${number}` as PackageName, {
          seq_id: places[index]!,
          version: this.#pick(['1.0', '2.0']),
          admin_status: this.#random() < 0.15 ? 'disabled' : 'enabled',
          map_args: [{ name: 'mark_id', args: [{ key: 0, value: 1 + this.#below(255) }] }],
        }),
      ),
    );
  }

  #pick<T>(choices: readonly T[]): T {
    return choices[this.#below(choices.length)]!;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}

function inOrder(programs: readonly PayloadProgram[]): PayloadProgram[] {
  return programs.toSorted((a, b) => a.seq_id - b.seq_id);
}

/** The numbers from 1 to `count` in random order. */
function shuffled(count: number, random: () => number): number[] {
  return Array.from({ length: count }, (_, index) => ({ number: index + 1, weight: random() }))
    .toSorted((a, b) => a.weight - b.weight)
    .map(({ number }) => number);
}
