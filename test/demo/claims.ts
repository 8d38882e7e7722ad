import { type Chain, changedNames, drawnChain, programIds, readChains, wrongSlots } from './chains.js';
import type { Narrator } from './narrator.js';
import type { Stage } from './stage.js';

export function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

export async function claimSlots(tell: Narrator, chains: readonly Chain[]): Promise<void> {
  const wrong = await wrongSlots(chains);
  tell.claim(
    wrong.length === 0,
    'bpftool confirms: every slot holds the next program, and the last ones are empty',
    wrong,
  );
}

export async function claimUntouched(
  stage: Stage,
  tell: Narrator,
  before: readonly Chain[],
  what: string,
): Promise<void> {
  const changed = changedNames(before, await readChains(stage));
  tell.claim(changed.length === 0, `${what}: all ${programIds(before).size} program ids are the same`, changed);
}

/** Draws the XDP chain with its new program. */
export async function claimOnlyMiddleReplaced(stage: Stage, tell: Narrator, before: readonly Chain[]): Promise<void> {
  const after = await readChains(stage);
  const middle = 'xdpingress/port-drop';
  const [old, young] = [programIds(before).get(middle), programIds(after).get(middle)];
  const xdp = after.find(({ direction }) => direction === 'xdpingress');
  if (xdp !== undefined) tell.lines([...drawnChain(xdp, tell.style, young), '']);
  const changed = changedNames(before, after);
  tell.claim(same(changed, [middle]), `only port-drop has been replaced by a new program: ${old} → ${young}`, changed);
}
