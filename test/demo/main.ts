import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { relative } from 'node:path';
import { styleFor } from '../../src/ctl/style.js';
import { L3AFCTL, writePayload } from './commands.js';
import { Narrator } from './narrator.js';
import { HOST, namesPayload, SERVICE_PORT, UNWANTED_PORT } from './payloads.js';
import { kernelObstacle, openStage, type Stage } from './stage.js';
import { NEEDS_KERNEL, tellOfChains, tellOfTheEnd } from './story.js';

/*
 *   npm run demo              a story of some twenty seconds; exit status 0 only if everything in it was seen to be so
 *   npm run demo -- --keep    stops with the chains in place, for playing with them, until Ctrl-C
 */

const tell = new Narrator((text) => process.stdout.write(text), styleFor(process.stdout, process.env));
const { style } = tell;

/** Rejects on Ctrl-C and the like; what was under way is then left as it is, and taken down with the stage. */
const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => reject(new Interrupt(signal)));
});
interrupted.catch(() => undefined);

class Interrupt extends Error {}

process.exit(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
  const unknown = args.find((arg) => arg !== '--keep');
  if (unknown !== undefined) {
    process.stderr.write(`Expected no argument but --keep, got ${unknown}\n`);
    return 2;
  }
  const began = performance.now();
  let status = 0;
  try {
    await perform(args.includes('--keep'));
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    tell.lines([
      '',
      style(['green', 'bold'], `All of it was seen to be so, in ${seconds} seconds, and nothing is left behind.`),
    ]);
  } catch (error) {
    status = error instanceof Interrupt ? 130 : 1;
    if (!(error instanceof Interrupt)) {
      tell.lines(['', ...describe(error).map((line, index) => (index === 0 ? style('red', `✖ ${line}`) : line))]);
    }
  }
  tell.lines(['']);
  return status;
}

async function perform(keep: boolean): Promise<void> {
  const obstacle = await kernelObstacle();
  if (obstacle !== undefined) {
    tell.lines(['', style('yellow', `No eBPF on this machine: ${obstacle}.`)]);
    tell.say('The story is told on a datapath in memory, without touching any interface. Only a kernel can show:');
    tell.say(...NEEDS_KERNEL.map((line) => `  ${line}`));
  }
  // An interrupt while the stage is being set up waits until it is, so that all of it is known and taken down.
  const stage = await openStage(obstacle === undefined);
  try {
    await Promise.race([interrupted, tellOfChains(stage, tell)]);
    if (keep) {
      await offer(stage);
      await interrupted.catch(() => undefined);
    } else {
      await Promise.race([interrupted, tellOfTheEnd(stage, tell)]);
    }
  } catch (error) {
    if (!(error instanceof Interrupt)) complain(stage);
    throw error;
  } finally {
    tell.lines(['', style('dim', 'Taking the stage down: agent, broker, network, mounts, files')]);
    await stage.close();
  }
  for (const remnant of remnantsOf(stage)) throw new Error(`${remnant} is left behind`);
}

/** What to type while the stage stands. */
async function offer(stage: Stage): Promise<void> {
  const { agent, folder, iface, kernel } = stage;
  await writePayload(stage, 'names.json', namesPayload(iface));
  const l3afctl = `node ${relative(process.cwd(), L3AFCTL)}`;
  tell.act('Yours to play with');
  tell.say('In another terminal:', '');
  tell.command(`export L3AF_NATS_URL=${agent.natsUrl}`);
  tell.command(`alias l3afctl="${l3afctl}"`);
  tell.lines(['']);
  tell.command('l3afctl status');
  tell.command(`l3afctl programs --host ${HOST}`);
  tell.command(`l3afctl acks --host ${HOST}`);
  tell.command(`l3afctl deploy -f ${folder}/chain.json --wait`);
  tell.command(`l3afctl delete -f ${folder}/names.json --wait`);
  tell.lines(['']);
  tell.command('nats -s $L3AF_NATS_URL sub "l3af.>"');
  tell.command(`nats -s $L3AF_NATS_URL request l3af.req.${HOST}.programs "{}"`);
  tell.command(`nats -s $L3AF_NATS_URL pub l3af.cmd.${HOST}.deploy "$(cat ${folder}/rule.json)"`);
  if (kernel !== undefined) {
    const { address, netns } = kernel.testbed;
    const counter = `${kernel.bpffs}/${iface}/port-count/1_0/port_packets`;
    tell.lines(['']);
    tell.command(`bpftool map dump pinned ${counter}`);
    for (const port of [SERVICE_PORT, UNWANTED_PORT]) {
      tell.command(`nsenter --net=${netns} bash -c 'echo hello >/dev/udp/${address}/${port}'`);
    }
    tell.command(`find ${kernel.bpffs} -type f`);
    tell.command(`bpftool link show; ip -d link show ${iface}`);
  }
  tell.lines(['']);
  tell.command(`kill -9 ${agent.pid}      # the chains go on`);
  tell.say('', style('bold', 'Ctrl-C takes everything down again.'));
}

/** What the agent has complained of, which is where to look first. */
function complain({ agent }: Stage): void {
  const complaints = agent.logs().filter(({ level }) => level !== 'info' && level !== 'debug');
  if (complaints.length === 0) return;
  tell.say('', "The story ends here. From the agent's log:", '', ...complaints.map((line) => JSON.stringify(line)));
}

/** What ought to be gone and is not. */
function remnantsOf({ folder, iface, kernel }: Stage): string[] {
  const places = [folder, ...(kernel === undefined ? [] : [kernel.testbed.netns, kernel.bpffs, kernel.keepsakes])];
  return [
    ...places.filter((place) => existsSync(place)),
    ...(kernel !== undefined && iface in networkInterfaces() ? [`the interface ${iface}`] : []),
  ];
}

function describe(error: unknown): string[] {
  if (error instanceof AggregateError) return [error.message, ...error.errors.flatMap(describe)];
  return (error instanceof Error ? error.message : String(error)).split('\n');
}
