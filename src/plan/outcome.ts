import type { Hook } from '../domain/hook.js';
import type { LoadedProgram } from '../domain/observed.js';
import { mapPin, ROOT_NAMES } from '../domain/pins.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { ProgramOutcome, ProgramResult } from '../steps/plan.js';

type StandingProgram = Pick<LoadedProgram, 'name' | 'versionSegment' | 'digest' | 'dir' | 'maps'>;

export interface OutcomeInput {
  readonly hook: Hook;
  /** What runs now, including the root. */
  readonly standing: readonly StandingProgram[];
  readonly before: readonly Program[] | undefined;
  readonly wanted: readonly Program[];
  /** What will run, in order. */
  readonly members: readonly { readonly program: Program; readonly dir: string }[];
  /** Pins of the maps that the plan writes. */
  readonly changedMaps?: ReadonlySet<string>;
  /** Programs of the same code that are loaded with other load-time constants, or that begin anew. */
  readonly renewed?: ReadonlySet<Program>;
  /** For each program that is not all there: what it waits for. */
  readonly waiting?: ReadonlyMap<Program, string>;
}

/** What happens to each program that is desired or that runs, in the words of the acknowledgement. */
export function outcomesOf(input: OutcomeInput): ProgramOutcome[] {
  const { hook, standing, wanted, members } = input;
  const asked = wanted.map((program): ProgramOutcome => {
    const { name, version } = program;
    const dir = members.find((member) => member.program === program)?.dir;
    const message = program.enabled ? input.waiting?.get(program) : undefined;
    const result = program.enabled ? resultOf(program, input) : 'disabled';
    return { hook, name, version, dir, result, ...(message !== undefined && { message }) };
  });
  const names = new Set(wanted.map((program) => program.name));
  const gone = standing
    .filter((loaded) => !names.has(loaded.name) && !ROOT_NAMES.includes(loaded.name))
    .map((loaded): ProgramOutcome => {
      const version = input.before?.find((program) => program.name === loaded.name)?.version;
      return {
        hook,
        name: loaded.name,
        version: version ?? loaded.versionSegment,
        dir: undefined,
        result: 'stopped',
      };
    });
  return [...asked, ...gone];
}

function resultOf(program: Program, input: OutcomeInput): ProgramResult {
  const standing = input.standing.find((loaded) => loaded.name === program.name);
  if (standing === undefined) return 'started';
  if (standing.digest !== contentDigest(program)) return 'updated';
  const changed = standing.maps.some((map) => input.changedMaps?.has(mapPin(standing.dir, map.name)) === true);
  if (changed || input.renewed?.has(program) === true) return 'updated';
  const previous = input.before?.find((other) => other.name === program.name);
  return previous !== undefined && previous.seqId !== program.seqId ? 'moved' : 'unchanged';
}
