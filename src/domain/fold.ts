import { type Fault, RefusedError } from '../errors.js';
import type { AddCommand, Command, DeleteCommand } from './command.js';
import { type DesiredState, normalize, probesOf, programsAt } from './desired.js';
import { type ChainHook, type Hook, hookKey, sameHook, TRACING } from './hook.js';
import type { Program } from './program.js';

/**
 * The desired state after a command. Folding a series of commands and then reconciling once gives the same state as
 * applying them one by one.
 *
 * @throws RefusedError NAME_CONFLICT or SEQ_ID_TAKEN for an `add` that conflicts with the desired state
 */
export function fold(before: DesiredState, command: Command): DesiredState {
  switch (command.verb) {
    case 'deploy':
      return normalize({ chains: command.chains, addresses: command.addresses, probes: probesOf(command) });
    case 'add':
      return foldAdd(before, command);
    case 'delete':
      return foldDelete(before, command);
  }
}

function foldAdd(before: DesiredState, command: AddCommand): DesiredState {
  const faults = command.chains.flatMap(({ hook, programs }) => {
    const present = programsAt(before, hook);
    return programs.flatMap((program) => conflictOf(program, present, hook));
  });
  const standing = probesOf(before);
  faults.push(...probesOf(command).flatMap((probe) => nameConflict(probe, standing, TRACING)));
  const [first, ...rest] = faults;
  if (first !== undefined) throw new RefusedError([first, ...rest]);

  const added = command.chains.map(({ hook, programs }) => {
    const present = programsAt(before, hook);
    const names = new Set(present.map((program) => program.name));
    return { hook, programs: [...present, ...programs.filter((program) => !names.has(program.name))] };
  });
  const untouched = before.chains.filter((chain) => !added.some(({ hook }) => sameHook(hook, chain.hook)));
  const probes = [...standing, ...probesOf(command).filter(({ name }) => !standing.some((one) => one.name === name))];
  const addresses = { ...before.addresses, ...command.addresses };
  return normalize({ chains: [...untouched, ...added], addresses, probes });
}

function conflictOf(program: Program, present: readonly Program[], hook: ChainHook): Fault[] {
  if (present.some(({ name }) => name === program.name)) return nameConflict(program, present, hook);
  const holder = present.find((other) => other.seqId === program.seqId);
  if (holder === undefined) return [];
  const message = `seq_id ${program.seqId} at ${hookKey(hook)} is taken by ${holder.name}; choose another for ${program.name}`;
  return [{ path: `${program.path}.seq_id`, code: 'SEQ_ID_TAKEN', message }];
}

function nameConflict(program: Program, present: readonly Program[], hook: Hook): Fault[] {
  const namesake = present.find((other) => other.name === program.name);
  if (namesake === undefined || sameRequest(namesake, program)) return [];
  const message =
    `${program.name} is already desired at ${hookKey(hook)} with other content; ` +
    'delete it first, or send a deploy with the new content';
  return [{ path: program.path, code: 'NAME_CONFLICT', message }];
}

function foldDelete(before: DesiredState, command: DeleteCommand): DesiredState {
  const chains = before.chains.map(({ hook, programs }) => {
    const names = new Set(
      command.targets.filter((target) => sameHook(target.hook, hook)).flatMap((target) => target.names),
    );
    return { hook, programs: programs.filter((program) => !names.has(program.name)) };
  });
  const probes = probesOf(before).filter(({ name }) => command.probes?.includes(name) !== true);
  return normalize({ chains, addresses: before.addresses, probes });
}

/** Whether two requests are equal in every field, whatever the order of their keys. */
function sameRequest(a: Program, b: Program): boolean {
  return canonical(a.payload) === canonical(b.payload);
}

/** JSON with sorted keys and without fields that have Go's zero value: l3afd may write or omit these. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    const fields = Object.entries(inner).filter(([, field]) => !isZero(field));
    return Object.fromEntries(fields.toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function isZero(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return !value;
  return Object.keys(value).length === 0;
}
