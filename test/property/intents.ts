import fc from 'fast-check';
import { MARKERS, VARIANTS, type Variant, VERSIONS } from './codes.js';

/*
 * Random commands in relative terms, such as "remove the second one there". {@link file://./commands.ts} makes them
 * concrete when they run. So a sequence stays meaningful when fast-check leaves parts of it out to shrink it.
 */

/** A program for a command. */
export interface Spec {
  readonly marker: number;
  readonly version: string;
  readonly variant: Variant;
  readonly disabled: boolean;
  /** Numbers for its maps. */
  readonly args: ArgsSpec;
  readonly carries: number;
}

export interface ArgsSpec {
  readonly id: number;
  /** An entry of an array; 0 for none. */
  readonly cell: number;
  /** Keys of a hash, each with a value. */
  readonly keys: readonly number[];
  /** Whether numbers are written as text. */
  readonly asText: boolean;
}

const ASPECTS = ['version', 'variant', 'slot', 'args', 'status', 'place', 'carried version'] as const;
export type Aspect = (typeof ASPECTS)[number];

const DAMAGES = [
  'detach',
  'empty slot',
  'skip one',
  'loop',
  'lose program pin',
  'lose slot pin',
  'lose map pin',
  'lose loaded program',
  'lose public name',
  'remake interface',
] as const;
export type Damage = (typeof DAMAGES)[number];

export type Intent =
  | { readonly what: 'deploy'; readonly at: number; readonly chains: readonly (readonly Spec[])[] }
  | { readonly what: 'chain'; readonly at: number; readonly chain: readonly Spec[] }
  | { readonly what: 'change'; readonly at: number; readonly which: number; readonly aspect: Aspect; readonly to: Spec }
  | { readonly what: 'reorder'; readonly at: number; readonly order: readonly number[] }
  | { readonly what: 'add'; readonly at: number; readonly gap: number; readonly programs: readonly Spec[] }
  | { readonly what: 'delete'; readonly at: number; readonly which: readonly number[]; readonly stranger: boolean }
  | { readonly what: 'again'; readonly verb: 'deploy' | 'add' }
  | { readonly what: 'fault'; readonly kind: number; readonly at: number; readonly which: number; readonly to: Spec }
  | { readonly what: 'damage'; readonly kind: Damage; readonly at: number; readonly which: number };

const place = fc.nat(5);
const which = fc.nat(4);

const spec: fc.Arbitrary<Spec> = fc.record({
  marker: fc.constantFrom(...MARKERS),
  version: fc.constantFrom(...VERSIONS),
  variant: fc.oneof({ arbitrary: fc.constant('plain' as const), weight: 3 }, fc.constantFrom(...VARIANTS)),
  disabled: fc.nat(6).map((dice) => dice === 6),
  args: fc.record({
    id: fc.nat(255),
    cell: fc.nat(2),
    keys: fc.uniqueArray(fc.nat(3), { maxLength: 2 }),
    asText: fc.boolean(),
  }),
  carries: fc.nat(6),
});

const chain = fc.uniqueArray(spec, { selector: ({ marker }) => marker, minLength: 1, maxLength: 5, size: 'max' });
const orNothing = fc.oneof(fc.constant<Spec[]>([]), chain);

const command: fc.Arbitrary<Intent> = fc.oneof(
  {
    arbitrary: fc.record({
      what: fc.constant('deploy' as const),
      at: place,
      chains: fc.array(orNothing, { maxLength: 3, size: 'max' }),
    }),
    weight: 3,
  },
  { arbitrary: fc.record({ what: fc.constant('chain' as const), at: place, chain }), weight: 3 },
  {
    arbitrary: fc.record({
      what: fc.constant('change' as const),
      at: place,
      which,
      aspect: fc.constantFrom(...ASPECTS),
      to: spec,
    }),
    weight: 6,
  },
  {
    arbitrary: fc.record({
      what: fc.constant('reorder' as const),
      at: place,
      order: fc.shuffledSubarray([...MARKERS], { minLength: MARKERS.length }),
    }),
    weight: 2,
  },
  {
    arbitrary: fc.record({
      what: fc.constant('add' as const),
      at: place,
      gap: fc.nat(6),
      programs: fc.uniqueArray(spec, { selector: ({ marker }) => marker, minLength: 1, maxLength: 2 }),
    }),
    weight: 4,
  },
  {
    arbitrary: fc.record({
      what: fc.constant('delete' as const),
      at: place,
      which: fc.uniqueArray(which, { minLength: 1, maxLength: 3 }),
      stranger: fc.boolean(),
    }),
    weight: 3,
  },
  fc.record({ what: fc.constant('again' as const), verb: fc.constantFrom('deploy' as const, 'add' as const) }),
  {
    arbitrary: fc.record({ what: fc.constant('fault' as const), kind: fc.nat(999), at: place, which, to: spec }),
    weight: 6,
  },
);

const damage: fc.Arbitrary<Intent> = fc.record({
  what: fc.constant('damage' as const),
  kind: fc.constantFrom(...DAMAGES),
  at: place,
  which,
});

/** How many intents of a sequence are damage from outside, in percent. */
export interface Mixture {
  readonly length: number;
  readonly damagePercent: number;
}

/** Sequences of one length. In a failing sequence, intents that do not matter are shrunk to undefined. */
export function sequences({ length, damagePercent }: Mixture): fc.Arbitrary<(Intent | undefined)[]> {
  const one = fc.oneof(
    { withCrossShrink: true },
    { arbitrary: fc.constant(undefined), weight: 1 },
    { arbitrary: command, weight: 10 * (100 - damagePercent) },
    ...(damagePercent === 0 ? [] : [{ arbitrary: damage, weight: 10 * damagePercent }]),
  );
  return fc.array(one, { minLength: length, maxLength: length, size: 'max' });
}
