/** Seeded mutation of payloads: the same seed gives the same run everywhere. */
export class Mutator {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** An integer from 0 to below `limit` (mulberry32). */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  /** A copy with one to four places changed: replaced, removed, doubled, renamed or grown. */
  structure(payload: unknown): unknown {
    const root = { payload: structuredClone(payload) };
    for (let changes = 1 + this.below(4); changes > 0; changes -= 1) {
      const { holder, key } = this.pick(placesOf(root));
      this.#change(holder, key);
    }
    return root.payload;
  }

  /** A copy with one to eight bytes flipped, dropped or inserted, or with its end cut off. */
  bytes(body: Uint8Array): Uint8Array {
    const changed = [...body];
    for (let changes = 1 + this.below(8); changes > 0; changes -= 1) {
      const at = this.below(changed.length + 1);
      switch (this.below(4)) {
        case 0:
          changed[at % Math.max(1, changed.length)] = this.below(256);
          break;
        case 1:
          changed.splice(at, 1);
          break;
        case 2:
          changed.splice(at, 0, this.pick([0x22, 0x2c, 0x5b, 0x7b, 0x7d, 0x5d, 0x00, 0xff, 0xc3, 0x2d, 0x39]));
          break;
        case 3:
          if (this.below(4) === 0) changed.length = at;
          break;
      }
    }
    return Uint8Array.from(changed);
  }

  #change(holder: Container, key: string | number): void {
    const value = Reflect.get(holder, key);
    switch (this.below(5)) {
      case 0:
      case 1:
        define(holder, key, structuredClone(this.pick(STRANGE)));
        break;
      case 2:
        if (Array.isArray(holder)) holder.splice(Number(key), 1);
        else if (key !== 'payload') Reflect.deleteProperty(holder, key);
        break;
      case 3:
        if (Array.isArray(holder)) holder.push(structuredClone(value));
        else
          define(
            holder,
            key,
            Array.from({ length: this.below(70) }, () => structuredClone(value)),
          );
        break;
      case 4:
        if (Array.isArray(holder)) holder.splice(Number(key), 0, structuredClone(this.pick(STRANGE)));
        else define(holder, this.pick(STRANGE_KEYS), structuredClone(value));
        break;
    }
  }
}

type Container = Record<string, unknown> | unknown[];

const STRANGE: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -0,
  -1,
  0.5,
  1e308,
  2 ** 53,
  '',
  'x',
  '../../etc/passwd',
  '/sys/fs/bpf/x',
  'a\0b',
  '\ud800',
  '\u202e',
  '%s%n',
  'x'.repeat(5000),
  [],
  {},
  [[]],
  [null],
  { length: 3 },
  { toString: null },
  JSON.parse('{"__proto__": {"polluted": true}}'),
];

const STRANGE_KEYS = [
  '__proto__',
  'constructor',
  'toString',
  'a.b',
  '',
  '0',
  'length',
  'NAME',
  'name',
  'x'.repeat(300),
];

/** Assignment to `__proto__` would change the prototype instead of adding the key, which JSON may contain. */
function define(holder: Container, key: string | number, value: unknown): void {
  Object.defineProperty(holder, key, { value, enumerable: true, writable: true, configurable: true });
}

function placesOf(root: Container): { holder: Container; key: string | number }[] {
  return Object.entries(root).flatMap(([key, value]) => [
    { holder: root, key: Array.isArray(root) ? Number(key) : key },
    ...(typeof value === 'object' && value !== null ? placesOf(value as Container) : []),
  ]);
}
