import * as z from 'zod';

/*
 * A table of fields is the only definition of a form: how a payload gives each field, and what the agent keeps. The
 * schema of the payload, the type in the domain and the form in the journal are derived from it.
 */

/** One field. Its key in the table is its name in the payload. */
export interface FormField {
  /** The schema in a payload. Its error is a noun phrase, see {@link file://./forms.ts}. */
  readonly given: z.ZodType;
  /** The name in the domain and in the journal; absent for a field that is accepted but not used. */
  readonly name?: string;
  /**
   * The schema in the domain and in the journal. It only checks the type, because a journal outlives the rules for
   * payloads.
   */
  readonly kept?: z.ZodType;
  /** Converts the given value into the kept one; undefined omits the field. */
  readonly read?: (given: never) => unknown;
}

export type FormFields = Readonly<Record<string, FormField>>;

/** The fields of a payload, for an object schema. */
type GivenShape<F extends FormFields> = { readonly [Key in keyof F]: F[Key]['given'] };

/** The fields of the domain and the journal, for an object schema. */
type KeptShape<F extends FormFields> = {
  readonly [Key in keyof F as F[Key] extends { name: infer Name extends string } ? Name : never]: F[Key] extends {
    kept: infer Kept extends z.ZodType;
  }
    ? Kept
    : never;
};

type KeptOutput<Shape extends z.core.$ZodShape> = Readonly<z.output<z.ZodObject<Shape, z.core.$strip>>>;

/** A field that the domain keeps as given. */
export function required<Name extends string, Given extends z.ZodType, Kept extends z.ZodType<z.output<Given>>>(
  name: Name,
  given: Given,
  kept: Kept,
) {
  return { name, given, kept, read: (value: z.output<Given>) => value };
}

/** A field that may be absent or null. The domain then has Go's zero value. */
export function optional<Name extends string, Given extends z.ZodType, Kept extends z.ZodType>(
  name: Name,
  given: Given,
  kept: Kept,
  absent: z.output<Kept> & NonNullable<z.output<Given>>,
) {
  return { name, given, kept, read: (value: z.output<Given>) => value ?? absent };
}

/** A field that the domain keeps in another form. */
export function converted<Name extends string, Given extends z.ZodType, Kept extends z.ZodType>(
  name: Name,
  given: Given,
  kept: Kept,
  read: (value: z.output<Given>) => z.output<Kept> | undefined,
) {
  return { name, given, kept, read };
}

/** A field that is accepted but not used. */
export function unused<Given extends z.ZodType>(given: Given) {
  return { given };
}

/** The fields of a payload, for an object schema. */
export function givenShape<F extends FormFields>(fields: F): GivenShape<F> {
  return Object.fromEntries(Object.entries(fields).map(([key, { given }]) => [key, given])) as GivenShape<F>;
}

/** The fields of the domain and the journal, for {@link keptForm}. */
export function keptShape<F extends FormFields>(fields: F): KeptShape<F> {
  const kept = Object.values(fields).flatMap(({ name, kept }) => (name === undefined ? [] : [[name, kept]]));
  return Object.fromEntries(kept) as KeptShape<F>;
}

/** The form of an object in the journal. Unknown fields are kept, because a later agent may have written them. */
export function keptForm<Shape extends z.core.$ZodShape>(shape: Shape) {
  return z.looseObject(shape) as unknown as z.ZodType<KeptOutput<Shape>>;
}

/** The domain's fields of a valid payload. */
export function readFields<F extends FormFields>(
  fields: F,
  payload: Readonly<z.output<z.ZodObject<GivenShape<F>, z.core.$strip>>>,
): KeptOutput<KeptShape<F>> {
  const given: Readonly<Record<string, unknown>> = payload;
  const kept: Record<string, unknown> = {};
  for (const [key, { name, read }] of Object.entries(fields)) {
    const value = name === undefined ? undefined : read?.(given[key] as never);
    if (name !== undefined && value !== undefined) kept[name] = value;
  }
  return kept as KeptOutput<KeptShape<F>>;
}
