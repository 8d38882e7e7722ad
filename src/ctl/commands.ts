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
  deploy: 'replace the whole desired state of a host with a payload',
  add: 'add the programs of a payload to a host',
  delete: 'remove programs from a host, by name',
};

/** Adds `deploy`, `add`, `delete`, and `plan`, which shows what they would do. */
export function addCommands(program: Command, terminal: Terminal, exit: Exit): void {
  for (const verb of VERBS) {
    program
      .command(verb)
      .summary(VERB_SUMMARIES[verb])
      .description(`${capital(VERB_SUMMARIES[verb])}.`)
      .requiredOption('-f, --file <payload>', 'JSON file, or - for standard input')
      .option('--host <name>', 'the host (default: the host_name in the payload)')
      .option('--wait', 'wait for the acknowledgement')
      .addOption(durationOption('how long to wait', '60s'))
      .option('--id <id>', 'id of the command; commands with the same id run only once')
      .option('--gen <number>', "the controller's generation for this host", parseGeneration)
      .option('--prev-gen <number>', 'run an add or delete only if this generation was applied last', parseGeneration)
      .option('--expires <when>', 'do not run it after this: a time, or a duration from now', parseMoment)
      .addHelpText('after', `\nExample:\n  $ l3afctl ${verb} -f payload.json --wait`)
      .action(async (_options, command: Command) => exit(await send(verb, command.optsWithGlobals(), terminal)));
  }

  program
    .command('plan')
    .summary('show what a command would do, without doing it')
    .description(
      'Show step by step what a command would do. Steps that do not affect packets are tried, including the verifier, and rolled back.',
    )
    .requiredOption('-f, --file <payload>', 'JSON file, or - for standard input')
    .option('--host <name>', 'the host (default: the host_name in the payload)')
    .addOption(new Option('--verb <verb>', 'verb of the command').choices([...VERBS]).default('deploy'))
    .addHelpText('after', '\nExample:\n  $ l3afctl plan -f payload.json')
    .action(async (_options, command: Command) => {
      const options: PlanOptions = command.optsWithGlobals();
      const { body, json: payload, host: named } = await readPayload(options.file);
      const host = hostOf(options, named);
      const reply = await withClient(options, (client) => client.plan(host, options.verb, body)).catch(refusalOf);
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
      const what = published.duplicate ? 'was already stored' : 'is stored';
      print(published, options, terminal, ({ id, seq }) => [`${verb} ${id} for ${host} ${what}, sequence ${seq}`]);
      return EXIT.done;
    }
    const { published, acknowledgement } = await client.send(verb, host, body, {
      ...publishing,
      timeoutMs: options.timeout,
    });
    if (published.duplicate) terminal.error(`${published.id} was already sent; this is its earlier result\n`);
    print(acknowledgement, options, terminal, renderAcknowledgement);
    return exitCodeOfStatus(acknowledgement.status);
  });
}

/** A refused plan is a result and is printed like the result of a command. */
function refusalOf(error: unknown): RequestRefusedError {
  if (error instanceof RequestRefusedError) return error;
  throw error;
}

function hostOf(options: { readonly host?: string }, named: string | undefined): string {
  const host = options.host ?? named;
  if (host !== undefined) return host;
  throw new AgentError('CONFIG_INVALID', 'The payload names no host; give one with --host');
}
