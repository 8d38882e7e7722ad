import { type Hook, hookKey } from './hook.js';
import {
  type Generation,
  liveAttachment,
  type ObservedHook,
  programsOf,
  type Strand,
  standingStrands,
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
] as const;

/** One way in which a chain is not as it is desired. */
export interface Difference {
  readonly kind: (typeof DIFFERENCE_KINDS)[number];
  /** Names of the programs that it is about; none where it is about the whole hook. */
  readonly programs: readonly string[];
  /** In a sentence. */
  readonly text: string;
}

export interface ComparedChain {
  readonly hook: Hook;
  /** Desired here, by ascending `seqId`, disabled ones included. */
  readonly wanted: readonly Program[];
  readonly observed: ObservedHook;
  /** Whether the hook's interface exists. */
  readonly present: boolean;
  /** The program that chains begin with here; undefined where the only program is attached itself. */
  readonly root: { readonly name: string; readonly digest: string } | undefined;
}

/** How the chain at a hook differs from what is desired there; empty if it does not. */
export function differencesOf({ hook, wanted, observed, present, root }: ComparedChain): Difference[] {
  const running = wanted.filter(({ enabled }) => enabled);
  const strands = standingStrands(observed);
  const standing = programsOf(strands);
  if (running.length === 0 && standing.length === 0) return [];
  if (!present) {
    return running.length === 0
      ? []
      : [{ kind: 'interface-absent', programs: [], text: `The interface ${hook.iface} does not exist` }];
  }
  const members = membersOf(standing, root);
  return [
    ...attachmentDifferences(hook, observed, running),
    ...rootDifferences(standing, running, root),
    ...members.flatMap((member) => memberDifferences(member, wanted)),
    ...running
      .filter(({ name }) => !members.some((member) => member.name === name))
      .map(({ name, version }) => about('missing', name, `${name} ${version} is desired, and no packet passes it`)),
    ...orderDifferences(members, running),
    ...strands.flatMap(slotDifferences),
  ];
}

/** The standing chain without its root. */
export function membersOf(standing: readonly Generation[], root: ComparedChain['root']): readonly Generation[] {
  return root !== undefined && standing[0]?.name === root.name ? standing.slice(1) : standing;
}

/** A generation's version as it was asked for, if a desired program says it: in the path, dots are underscores. */
export function versionOf(
  { name, versionSegment: segment }: Pick<Generation, 'name' | 'versionSegment'>,
  wanted: readonly Program[],
): string {
  const asked = wanted.find((program) => program.name === name && versionSegment(program.version) === segment);
  return asked?.version ?? segment;
}

function attachmentDifferences(hook: Hook, observed: ObservedHook, running: readonly Program[]): Difference[] {
  if (running.length === 0 || liveAttachment(observed) !== undefined) return [];
  const how = observed.attachments.length === 0 ? 'no link holds it' : 'its link is detached';
  return [{ kind: 'detached', programs: [], text: `The chain is not attached to ${hookKey(hook)}: ${how}` }];
}

function rootDifferences(
  standing: readonly Generation[],
  running: readonly Program[],
  root: ComparedChain['root'],
): Difference[] {
  const [head] = standing;
  if (root === undefined || head === undefined) return [];
  if (running.length === 0) return head.name === root.name ? [extra(root.name, 'latest')] : [];
  if (head.name !== root.name) return [about('root', root.name, `The chain does not begin with ${root.name}`)];
  return head.digest === root.digest
    ? []
    : [about('root', root.name, `Another ${root.name} runs than the one that is configured`)];
}

function memberDifferences(member: Generation, wanted: readonly Program[]): Difference[] {
  const { name } = member;
  const version = versionOf(member, wanted);
  const program = wanted.find((other) => other.name === name);
  if (program === undefined) return [extra(name, version)];
  if (!program.enabled) return [about('disabled', name, `${name} ${version} runs, though it is disabled`)];
  if (member.digest === contentDigest(program)) return [];
  const text =
    version === program.version
      ? `${name} ${version} runs with other code than is desired`
      : `${name} runs as ${version}, and ${program.version} is desired`;
  return [about('version', name, text)];
}

function orderDifferences(members: readonly Generation[], running: readonly Program[]): Difference[] {
  const desired = running.map(({ name }) => name).filter((name) => members.some((member) => member.name === name));
  const actual = members.map(({ name }) => name).filter((name) => desired.includes(name));
  if (actual.join() === desired.join()) return [];
  const misplaced = actual.filter((name, index) => name !== desired[index]);
  const text = `The order is ${actual.join(', ')}, and ${desired.join(', ')} is desired`;
  return [{ kind: 'order', programs: misplaced, text }];
}

/** Where a strand ends before its last slot says so. */
function slotDifferences({ programs }: Strand): Difference[] {
  const last = programs.at(-1);
  const next = last?.slot?.next ?? null;
  if (last === undefined || next === null) return [];
  const loops = programs.some(({ programId }) => programId === next);
  const what = loops ? 'which packets have passed already' : 'which is none of ours';
  return [about('slot', last.name, `The slot of ${last.name} names program ${next}, ${what}`)];
}

function extra(name: string, version: string): Difference {
  return about('extra', name, `${name} ${version} runs, and is not desired`);
}

function about(kind: Difference['kind'], program: string, text: string): Difference {
  return { kind, programs: [program], text };
}
