import { absence, type ChainHook, hookKey } from './hook.js';
import {
  type LoadedProgram,
  liveAttachment,
  type ObservedHook,
  programsOf,
  type Subchain,
  standingSubchains,
} from './observed.js';
import { versionSegment } from './pins.js';
import { contentDigest, type Program } from './program.js';

export const DIFFERENCE_KINDS = [
  'interface-absent',
  'detached',
  'root',
  'missing',
  'extra',
  'disabled',
  'version',
  'order',
  'slot',
  'companion',
] as const;

/** One difference between a chain and its desired state. */
export interface Difference {
  readonly kind: (typeof DIFFERENCE_KINDS)[number];
  /** Names of the programs that differ; empty if the difference is about the whole hook. */
  readonly programs: readonly string[];
  /** One sentence. */
  readonly text: string;
}

export interface ComparedChain {
  readonly hook: ChainHook;
  /** Desired here, by ascending `seqId`, disabled ones included. */
  readonly wanted: readonly Program[];
  readonly observed: ObservedHook;
  /** Whether the hook's interface exists. */
  readonly present: boolean;
  /** The program that chains begin with here; undefined if the only program is attached directly. */
  readonly root: { readonly name: string; readonly digest: string } | undefined;
}

/** Differences between the chain at a hook and the desired chain; empty if there are none. */
export function differencesOf({ hook, wanted, observed, present, root }: ComparedChain): Difference[] {
  const running = wanted.filter(({ enabled }) => enabled);
  const subchains = standingSubchains(observed);
  const standing = programsOf(subchains);
  if (running.length === 0 && standing.length === 0) return [];
  if (!present) {
    return running.length === 0 ? [] : [{ kind: 'interface-absent', programs: [], text: absence(hook) }];
  }
  const members = membersOf(standing, root);
  return [
    ...attachmentDifferences(hook, observed, running),
    ...rootDifferences(standing, running, root),
    ...members.flatMap((member) => memberDifferences(member, wanted)),
    ...running
      .filter(({ name }) => !members.some((member) => member.name === name))
      .map(({ name, version }) => about('missing', name, `${name} ${version} is desired, but no packet passes it`)),
    ...orderDifferences(members, running),
    ...subchains.flatMap(slotDifferences),
  ];
}

/** The standing chain without its root. */
export function membersOf(standing: readonly LoadedProgram[], root: ComparedChain['root']): readonly LoadedProgram[] {
  return root !== undefined && standing[0]?.name === root.name ? standing.slice(1) : standing;
}

/** A load's version as requested, if a desired program has it. In the path, dots are underscores. */
export function versionOf(
  { name, versionSegment: segment }: Pick<LoadedProgram, 'name' | 'versionSegment'>,
  wanted: readonly Program[],
): string {
  const asked = wanted.find((program) => program.name === name && versionSegment(program.version) === segment);
  return asked?.version ?? segment;
}

function attachmentDifferences(hook: ChainHook, observed: ObservedHook, running: readonly Program[]): Difference[] {
  if (running.length === 0 || liveAttachment(observed) !== undefined) return [];
  const how = observed.attachments.length === 0 ? 'no link holds it' : 'its link is detached';
  return [{ kind: 'detached', programs: [], text: `The chain is not attached to ${hookKey(hook)}: ${how}` }];
}

function rootDifferences(
  standing: readonly LoadedProgram[],
  running: readonly Program[],
  root: ComparedChain['root'],
): Difference[] {
  const [head] = standing;
  if (root === undefined || head === undefined) return [];
  if (running.length === 0) return head.name === root.name ? [extra(root.name, 'latest')] : [];
  if (head.name !== root.name) return [about('root', root.name, `The chain does not begin with ${root.name}`)];
  return head.digest === root.digest
    ? []
    : [about('root', root.name, `The running ${root.name} is not the configured one`)];
}

function memberDifferences(member: LoadedProgram, wanted: readonly Program[]): Difference[] {
  const { name } = member;
  const version = versionOf(member, wanted);
  const program = wanted.find((other) => other.name === name);
  if (program === undefined) return [extra(name, version)];
  if (!program.enabled) return [about('disabled', name, `${name} ${version} runs, though it is disabled`)];
  if (member.digest === contentDigest(program)) return [];
  const text =
    version === program.version
      ? `${name} ${version} does not run the desired code`
      : `${name} runs as ${version}, but ${program.version} is desired`;
  return [about('version', name, text)];
}

function orderDifferences(members: readonly LoadedProgram[], running: readonly Program[]): Difference[] {
  const desired = running.map(({ name }) => name).filter((name) => members.some((member) => member.name === name));
  const actual = members.map(({ name }) => name).filter((name) => desired.includes(name));
  if (actual.join() === desired.join()) return [];
  const misplaced = actual.filter((name, index) => name !== desired[index]);
  const text = `The order is ${actual.join(', ')}, but ${desired.join(', ')} is desired`;
  return [{ kind: 'order', programs: misplaced, text }];
}

/** Reports a slot that still names a program at the end of a subchain. */
function slotDifferences({ programs }: Subchain): Difference[] {
  const last = programs.at(-1);
  const next = last?.slot?.next ?? null;
  if (last === undefined || next === null) return [];
  const loops = programs.some(({ programId }) => programId === next);
  const what = loops ? 'which packets have already passed' : 'which is not ours';
  return [about('slot', last.name, `The slot of ${last.name} names program ${next}, ${what}`)];
}

function extra(name: string, version: string): Difference {
  return about('extra', name, `${name} ${version} runs, but is not desired`);
}

function about(kind: Difference['kind'], program: string, text: string): Difference {
  return { kind, programs: [program], text };
}
