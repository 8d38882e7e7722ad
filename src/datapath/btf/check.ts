import { type BtfType, KIND, readBtf, WRAPPERS } from './btf.js';

/** Kinds that contain what they refer to, as opposed to pointing at it. */
const CONTAINING: ReadonlySet<number> = new Set([...WRAPPERS, KIND.ARRAY, KIND.STRUCT, KIND.UNION]);

/**
 * Checks that type information can be followed safely. libbpf before 1.3 looks up types without checking that they
 * exist, and loops forever if a type is a typedef of itself (skip_mods_and_typedefs in its libbpf.c). Either would end
 * the agent.
 *
 * @throws RangeError saying what is wrong
 */
export function checkBtf(data: Buffer): void {
  const types = readBtf(data);
  for (const [id, { kind, refers }] of types.entries()) {
    const absent = refers.find((other) => other >= types.length);
    if (absent !== undefined) throw new RangeError(`type ${id} refers to type ${absent}, which does not exist`);
    if (kind === KIND.FUNC && types[refers[0]!]!.kind !== KIND.FUNC_PROTO) {
      throw new RangeError(`type ${id} is a function without a prototype`);
    }
  }
  checkContents(types);
}

/** Checks that no type contains itself. */
function checkContents(types: readonly BtfType[]): void {
  const state = new Uint8Array(types.length);
  const [ENTERED, LEFT] = [1, 2];
  // An explicit stack instead of recursion, since types may be nested deeply.
  const way: { readonly id: number; next: number }[] = [];
  const enter = (id: number) => {
    if (state[id] === ENTERED) throw new RangeError(`type ${id} contains itself`);
    if (state[id] === LEFT || !CONTAINING.has(types[id]!.kind)) return;
    state[id] = ENTERED;
    way.push({ id, next: 0 });
  };
  for (const id of types.keys()) {
    enter(id);
    for (let place = way.at(-1); place !== undefined; place = way.at(-1)) {
      const { kind, refers } = types[place.id]!;
      // The second type of an array is that of its index.
      const inner = kind === KIND.ARRAY && place.next === 1 ? undefined : refers[place.next];
      place.next += 1;
      if (inner !== undefined) enter(inner);
      else state[way.pop()!.id] = LEFT;
    }
  }
}
