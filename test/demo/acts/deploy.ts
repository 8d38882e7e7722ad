import { drawnChain, readChains } from '../chains.js';
import { claimSlots } from '../claims.js';
import { command } from '../commands.js';
import type { Narrator } from '../narrator.js';
import { chainPayload } from '../payloads.js';
import { hasKernel, type Stage } from '../stage.js';

export async function deploy(stage: Stage, tell: Narrator): Promise<void> {
  tell.act('A deploy command: three XDP programs, and one TC program in each direction');
  const acknowledgement = await command(stage, tell, 'deploy', 'chain.json', chainPayload(stage.iface));
  const chains = await readChains(stage);
  for (const chain of chains) tell.lines([...drawnChain(chain, tell.style), '']);
  const started = acknowledgement.programs.filter(({ result }) => result === 'started');
  const { status } = acknowledgement;
  tell.claim(status === 'applied' && started.length === 5, 'all five programs are started', acknowledgement);
  if (hasKernel(stage)) await claimSlots(tell, chains);
}
