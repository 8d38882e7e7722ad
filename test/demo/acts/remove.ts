import { existing } from '../../support/kernel-ids.js';
import { readChains } from '../chains.js';
import { command } from '../commands.js';
import { linkedPrograms, pinsBelow } from '../kernel.js';
import type { Narrator } from '../narrator.js';
import { namesPayload } from '../payloads.js';
import { hasKernel, type Stage } from '../stage.js';

export async function removeAll(stage: Stage, tell: Narrator): Promise<void> {
  tell.act('A delete command removes everything');
  const chains = await readChains(stage);
  const acknowledgement = await command(stage, tell, 'delete', 'names.json', namesPayload(stage.iface));
  const { status, programs } = acknowledgement;
  const stopped = programs.filter(({ result }) => result === 'stopped');
  tell.claim(status === 'applied' && stopped.length === 5, 'all five programs are stopped', acknowledgement);
  const left = await readChains(stage);
  tell.claim(left.length === 0, 'no chain is left; the roots were removed with the last programs', left);
  if (!hasKernel(stage)) return;

  const members = chains.flatMap((chain) => chain.members);
  const ids = members.map(({ programId }) => programId);
  const slots = members.map(({ slotId }) => slotId);
  const linked = (await linkedPrograms()).filter((id) => ids.includes(id));
  const remains = {
    programs: existing('prog', ids),
    slots: existing('map', slots),
    links: linked,
    pins: pinsBelow(stage.kernel.bpffs),
  };
  tell.claim(
    Object.values(remains).every((list) => list.length === 0),
    `none of the ${ids.length} programs is left in the kernel, and none of their slots, links and pins`,
    remains,
  );
}
