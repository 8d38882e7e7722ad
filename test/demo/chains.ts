import { type Box, drawBoxes } from '../../src/ctl/boxes.js';
import type { Style } from '../../src/ctl/style.js';
import type { L3AFALLHOSTDATA, L3AFMetaData } from '../../src/messages/snapshot.js';
import type { Direction } from '../support/directions.js';
import { WIDTH } from './drawing.js';
import { slotTarget } from './kernel.js';
import { HOST } from './payloads.js';
import type { Stage } from './stage.js';

/** A chain as the agent reports it. */
export interface Chain {
  readonly iface: string;
  readonly direction: Direction;
  /** In the order in which packets pass them; the root first. */
  readonly members: readonly Member[];
}

export interface Member {
  readonly name: string;
  readonly version: string;
  readonly programId: number;
  /** Id of the slot's map. */
  readonly slotId: number;
}

/** The running chains, from the agent's answer to `l3af.req.<host>.state`. */
export async function readChains(stage: Stage): Promise<Chain[]> {
  const state = await stage.client.request(HOST, 'state', {});
  return [
    ...chainsOf('xdpingress', state.IngressXDPBpfs),
    ...chainsOf('ingress', state.IngressTCBpfs),
    ...chainsOf('egress', state.EgressTCBpfs),
  ];
}

function chainsOf(direction: Direction, lists: L3AFALLHOSTDATA['IngressXDPBpfs']): Chain[] {
  return Object.entries(lists).map(([iface, list]) => ({ iface, direction, members: list.map(memberOf) }));
}

function memberOf({ Program, ProgID, ProgMapID }: L3AFMetaData): Member {
  return { name: String(Program.name), version: String(Program.version), programId: ProgID, slotId: ProgMapID };
}

/** Draws a chain like `l3afctl show`. @param fresh id of the program to highlight */
export function drawnChain({ iface, direction, members }: Chain, style: Style, fresh?: number): string[] {
  const boxes = members.map(({ name, version, programId, slotId }, index): Box => {
    return {
      title: name.endsWith('-root') ? name : `${name} ${version}`,
      text: `prog ${programId}`,
      foot: `slot ${slotId}`,
      tone: programId === fresh ? 'new' : 'plain',
      reachedBy: index > 0 ? 'slot' : undefined,
    };
  });
  return [`${iface} ${direction}`, ...drawBoxes(boxes, style, WIDTH)];
}

/** Program ids of all chains, by hook and name: `xdpingress/port-drop`. */
export function programIds(chains: readonly Chain[]): Map<string, number> {
  return new Map(
    chains.flatMap(({ direction, members }) =>
      members.map(({ name, programId }) => [`${direction}/${name}`, programId] as const),
    ),
  );
}

/** The keys of {@link programIds} whose program is now a different one. */
export function changedNames(before: readonly Chain[], after: readonly Chain[]): string[] {
  const [old, now] = [programIds(before), programIds(after)];
  return [...new Set([...old.keys(), ...now.keys()])].filter((name) => old.get(name) !== now.get(name));
}

/** Slots that, according to the kernel, do not hold the next program. The last slot must be empty. */
export async function wrongSlots(chains: readonly Chain[]): Promise<string[]> {
  const wrong = chains.flatMap(({ members }) =>
    members.map(async ({ name, slotId }, index) => {
      const expected = members[index + 1]?.programId;
      const found = await slotTarget(slotId);
      return found === expected ? [] : [`slot ${slotId} of ${name} holds ${found ?? 'nothing'}`];
    }),
  );
  return (await Promise.all(wrong)).flat();
}
