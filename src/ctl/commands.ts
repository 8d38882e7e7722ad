import { type Command, Option } from 'commander';
import { RequestRefusedError } from '../client/request-refused.js';
import { VERBS, type Verb } from '../domain/command.js';
import { AgentError } from '../errors.js';
import { EXIT, type ExitCode, exitCodeOfStatus } from './exit.js';
import type { CommonOptions } from './options.js';
import { readPayload, verbHint } from './payload.js';
import { renderAcknowledgement, renderPlan, renderRefusal } from './render.js';
import { capital, durationOption, type Exit, print, type Terminal, withClient } from './session.js';
import { parseGeneration, parseMoment } from './values.js';

interface SendOptions extends CommonOptions {
  readonly file: string;
  readonly host?: string;
  readonly wait?: true;
  readonly timeout: number;
  readonly id?: string;
  readonly gen?: number;
  readonly prevGen?: number;
  readonly expires?: Date;
}

interface PlanOptions extends CommonOptions {
  readonly file: string;
  readonly host?: string;
  readonly verb: Verb;
}

const VERB_SUMMARIES: Readonly<Record<Verb, string>> = {
  deploy: 'make a payload the whole desired state of a host',
  add: "add a payload's programs to what a host runs",
  delete: 'take programs away from a host, by name',
};

/** `deploy`, `add`, `delete`, and `plan`, which tells what they would do. */
export function addCommands(program: Command, terminal: Terminal, exit: Exit): void {
  for (const verb of VERBS) {
    program
      .command(verb)
      .summary(VERB_SUMMARIES[verb])
      .description(`${capital(VERB_SUMMARIES[verb])}.`)
      .requiredOption('-f, --file <payload>', 'JSON file, or - for standard input')
      .option('--host <name>', 'the host; the host_name in the payload unless given')
      .option('--wait', 'wait for the acknowledgement')
      .addOption(durationOption('how long to wait', '60s'))
      .option('--id <id>', 'id of the command; the same id is never run twice')
      .option('--gen <number>', "the controller's generation for this host", parseGeneration)
      .option('--prev-gen <number>', 'the generation that has to have been applied before', parseGeneration)
      .option('--expires <when>', 'do not run it later than this: a time, or a duration from now', parseMoment)
      .addHelpText('after', `\nExample:\n  $ l3afctl ${verb} -f payload.json --wait`)
      .action(async (_options, command: Command) => exit(await send(verb, command.optsWithGlobals(), terminal)));
  }

  program
    .command('plan')
    .summary('what a command would do, without doing it')
    .description(
      'What a command would do, step by step. All that packets do not notice is tried, the verifier included, and taken back.',
    )
    .requiredOption('-f, --file <payload>', 'JSON file, or - for standard input')
    .option('--host <name>', 'the host; the host_name in the payload unless given')
    .addOption(new Option('--verb <verb>', 'of the command').choices([...VERBS]).default('deploy'))
    .addHelpText('after', '\nExample:\n  $ l3afctl plan -f payload.json')
    .action(async (_options, command: Command) => {
      const options: PlanOptions = command.optsWithGlobals();
      const { json: payload, host: named } = await readPayload(options.file);
      const host = hostOf(options, named);
      const parameters = { verb: options.verb, payload };
      const reply = await withClient(options, (client) => client.request(host, 'plan', parameters)).catch(refusalOf);
      if (!(reply instanceof RequestRefusedError)) {
        print(reply, options, terminal, renderPlan);
        return exit(EXIT.done);
      }
      print({ host, verb: options.verb, ...reply.refusal }, options, terminal, renderRefusal);
      const hint = verbHint(payload, options.verb);
      if (hint !== undefined) terminal.error(`${hint}\n`);
      exit(EXIT.refused);
    });
}

async function send(verb: Verb, options: SendOptions, terminal: Terminal): Promise<ExitCode> {
  const { body, host: named } = await readPayload(options.file);
  const host = hostOf(options, named);
  const publishing = { id: options.id, gen: options.gen, prevGen: options.prevGen, expires: options.expires };
  return withClient(options, async (client) => {
    if (options.wait === undefined) {
      const published = await client.publish(verb, host, body, publishing);
      const what = published.duplicate ? 'was stored before' : 'is stored';
      print(published, options, terminal, ({ id, seq }) => [`${verb} ${id} for ${host} ${what}, sequence ${seq}`]);
      return EXIT.done;
    }
    const { published, acknowledgement } = await client.send(verb, host, body, {
      ...publishing,
      timeoutMs: options.timeout,
    });
    if (published.duplicate) terminal.error(`${published.id} was sent before; this is what became of it then\n`);
    print(acknowledgement, options, terminal, renderAcknowledgement);
    return exitCodeOfStatus(acknowledgement.status);
  });
}

/** What a plan comes upon is a result, told as a command's is. */
function refusalOf(error: unknown): RequestRefusedError {
  if (error instanceof RequestRefusedError) return error;
  throw error;
}

function hostOf(options: { readonly host?: string }, named: string | undefined): string {
  const host = options.host ?? named;
  if (host !== undefined) return host;
  throw new AgentError('CONFIG_INVALID', 'The payload names no host; say which with --host');
}
