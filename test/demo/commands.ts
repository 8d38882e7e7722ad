import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { renderAcknowledgement } from '../../src/ctl/render.js';
import type { Verb } from '../../src/domain/command.js';
import { type Acknowledgement, acknowledgementSchema } from '../../src/messages/ack.js';
import { atExit } from '../support/last-resort.js';
import { L3AFCTL } from '../support/project.js';
import { wrapped } from './drawing.js';
import { readExchanges } from './exchanges.js';
import type { Narrator } from './narrator.js';
import type { Stage } from './stage.js';

/** The compiled l3afctl. */

/** Sends a command with l3afctl, and shows the command and its output. */
export async function command(
  stage: Stage,
  tell: Narrator,
  verb: Verb,
  file: string,
  payload: unknown,
): Promise<Acknowledgement> {
  await writePayload(stage, file, payload);
  const args = [verb, '-f', file, '--wait'];
  tell.command(`l3afctl ${args.join(' ')}`);
  const acknowledgement = await l3afctl(stage, args);
  const exchanges = await readExchanges(stage.agent.natsUrl);
  const exchange = exchanges.find((other) => other.acknowledgement.id === acknowledgement.id);
  tell.lines(renderAcknowledgement(toldOnce(acknowledgement), tell.style).flatMap(wrapped));
  tell.say(tell.style('dim', `${exchange?.tookMs} ms from publish to acknowledgement, by the broker's clock`), '');
  return acknowledgement;
}

/** Without the message of the failed program, since it equals the message of the acknowledgement. */
function toldOnce(acknowledgement: Acknowledgement): Acknowledgement {
  const programs = acknowledgement.programs.map(({ message, ...program }) =>
    message === undefined || message === acknowledgement.message ? program : { ...program, message },
  );
  return { ...acknowledgement, programs };
}

export async function writePayload({ folder }: Stage, file: string, payload: unknown): Promise<void> {
  await writeFile(join(folder, file), `${JSON.stringify(payload, null, 2)}\n`);
}

/** Runs l3afctl with JSON output. A failed command has an acknowledgement too, with exit status 1. */
function l3afctl({ folder, agent }: Stage, args: readonly string[]): Promise<Acknowledgement> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, L3AF_NATS_URL: agent.natsUrl };
    const words = [L3AFCTL, ...args, '-o', 'json'];
    const child = execFile(process.execPath, words, { cwd: folder, env }, (error, stdout, stderr) => {
      forget();
      if (stdout === '') reject(new Error(`l3afctl ${args.join(' ')}: ${stderr.trim()}`, { cause: error }));
      else resolve(acknowledgementSchema.parse(JSON.parse(stdout)));
    });
    const forget = atExit(() => child.kill());
  });
}
