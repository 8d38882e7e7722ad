import { deploy } from './acts/deploy.js';
import { introduce } from './acts/introduce.js';
import { killAgent } from './acts/kill.js';
import { lookBack } from './acts/look-back.js';
import { markOutgoing } from './acts/mark.js';
import { refuseBroken } from './acts/refuse.js';
import { removeAll } from './acts/remove.js';
import { addRule } from './acts/rule.js';
import { updateInMemory, updateUnderTraffic } from './acts/update.js';
import type { Narrator } from './narrator.js';
import { hasKernel, type Stage } from './stage.js';

/** The first part. The chains are attached at its end. */
export async function tellOfChains(stage: Stage, tell: Narrator): Promise<void> {
  await introduce(stage, tell);
  await deploy(stage, tell);
  if (hasKernel(stage)) {
    await addRule(stage, tell);
    await markOutgoing(stage, tell);
    await updateUnderTraffic(stage, tell);
    await killAgent(stage, tell);
    await refuseBroken(stage, tell);
  } else {
    await updateInMemory(stage, tell);
  }
}

export async function tellOfTheEnd(stage: Stage, tell: Narrator): Promise<void> {
  await removeAll(stage, tell);
  await lookBack(stage, tell, hasKernel(stage) ? 5 : 3);
}

/** What the demo shows only with a kernel. */
export const NEEDS_KERNEL = [
  'packets that are counted, dropped and marked; an update without packet loss;',
  'chains that keep running without the agent and are adopted; a program that the verifier rejects.',
];
