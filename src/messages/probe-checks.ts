import type { Fault } from '../errors.js';
import {
  checkCompanion,
  checkMapArgs,
  checkMonitorMaps,
  duplicateName,
  type Entry,
  entries,
  isEmpty,
  isScalar,
  items,
  keyed,
  listsOf,
  repeated,
} from './checks.js';
import { unexpected } from './faults.js';

/*
 * The rules for `probes`. They hang at no interface, so that the lists of all entries are one.
 */

/** Of a `deploy` or `add`. */
export function checkProbes(payload: unknown): Fault[] {
  const probes = entries(payload, [])
    .map(listsOf)
    .flatMap(({ path, fields }) => entries(fields.probes, [...path, 'probes']));
  return [
    ...repeated(keyed(probes, 'name'), ({ path, key }) => duplicateName(path, key)),
    ...probes.flatMap((probe) => [
      ...checkForm(probe),
      ...checkCompanion(probe),
      ...checkMapArgs(probe),
      ...checkMonitorMaps(probe),
    ]),
  ];
}

/** Of a `delete`. */
export function checkProbeNames(payload: unknown): Fault[] {
  const names = entries(payload, [])
    .map(listsOf)
    .flatMap(({ path, fields }) =>
      items(fields.probes).map((key, index) => ({ path: [...path, 'probes', index], key })),
    );
  return repeated(
    names.filter(({ key }) => isScalar(key)),
    ({ path, key }) => duplicateName(path, key),
  );
}

/** What a probe needs, and what it cannot have. Its sections say what it hangs at, so that its type is not looked at, as l3afd does not. */
function checkForm({ path, fields }: Entry): Fault[] {
  const absent = (field: string, why: string) => {
    return isEmpty(fields[field]) ? [] : [unexpected([...path, field], why, fields[field])];
  };
  const object = isEmpty(fields.object_file)
    ? [unexpected([...path, 'object_file'], 'the object file with the probes', fields.object_file)]
    : [];
  const type = ['xdp', 'tc'].includes(fields.prog_type as string)
    ? [
        unexpected(
          [...path, 'prog_type'],
          'a kind of probe, or absent, since no chain runs what is in this list',
          fields.prog_type,
        ),
      ]
    : [];
  return [...object, ...type, ...absent('map_name', 'absent, since a probe has no successor')];
}
