import type { Fault } from '../errors.js';
import {
  checkCompanion,
  checkMapArgs,
  checkMonitorMaps,
  checkSupport,
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
      ...checkSupport(probe),
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

/** What a probe needs, and what it cannot have. Its sections say what it hangs at, so that it needs no type. */
function checkForm({ path, fields }: Entry): Fault[] {
  const absent = (field: string, why: string) => {
    return isEmpty(fields[field]) ? [] : [unexpected([...path, field], why, fields[field])];
  };
  const object = isEmpty(fields.object_file)
    ? [unexpected([...path, 'object_file'], 'the object file with the probes', fields.object_file)]
    : [];
  return [
    ...object,
    ...absent('prog_type', 'absent, since the sections of its object file say what a probe is'),
    ...absent('map_name', 'absent, since a probe has no successor'),
  ];
}
