import type { Hook, NoHook } from '../domain/hook.js';
import type { Generation } from '../domain/observed.js';
import { mapPin, ROOT_NAMES } from '../domain/pins.js';
import type { ProgramOutcome, ProgramResult } from '../domain/plan.js';
import { contentDigest, type Program } from '../domain/program.js';

type Standing = Pick<Generation, 'name' | 'versionSegment' | 'digest' | 'dir' | 'maps'>;

export interface OutcomeInput {
  readonly hook: Hook | NoHook;
  /** What stands now, the root included. */
  readonly standing: readonly Standing[];
  readonly before: readonly Program[] | undefined;
  readonly wanted: readonly Program[];
  /** What will run, in order. */
  readonly members: readonly { readonly program: Program; readonly dir: string }[];
  /** Pins of the maps that the plan writes. */
  readonly changedMaps?: ReadonlySet<string>;
}

/** What becomes of each program that is wanted or that stands, in the words of the acknowledgement. */
export function outcomesOf(input: OutcomeInput): ProgramOutcome[] {
  const { hook, standing, wanted, members } = input;
  const asked = wanted.map((program): ProgramOutcome => {
    const { name, version } = program;
    const dir = members.find((member) => member.program === program)?.dir;
    return { hook, name, version, dir, result: program.enabled ? resultOf(program, input) : 'disabled' };
  });
  const names = new Set(wanted.map((program) => program.name));
  const gone = standing
    .filter((generation) => !names.has(generation.name) && !ROOT_NAMES.includes(generation.name))
    .map((generation): ProgramOutcome => {
      const version = input.before?.find((program) => program.name === generation.name)?.version;
      return {
        hook,
        name: generation.name,
        version: version ?? generation.versionSegment,
        dir: undefined,
        result: 'stopped',
      };
    });
  return [...asked, ...gone];
}

function resultOf(program: Program, input: OutcomeInput): ProgramResult {
  const standing = input.standing.find((generation) => generation.name === program.name);
  if (standing === undefined) return 'started';
  if (standing.digest !== contentDigest(program)) return 'updated';
  const changed = standing.maps.some((map) => input.changedMaps?.has(mapPin(standing.dir, map.name)) === true);
  if (changed) return 'updated';
  const previous = input.before?.find((other) => other.name === program.name);
  return previous !== undefined && previous.seqId !== program.seqId ? 'moved' : 'unchanged';
}
