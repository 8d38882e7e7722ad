import { Command, Option } from 'commander';
import { FleetClient } from '../client/fleet-client.js';
import { VERBS, type Verb } from '../domain/command.js';
import { AgentError } from '../errors.js';
import type { Acknowledgement } from '../messages/ack.js';
import type { ReplyOf, RequestVerb } from '../messages/requests.js';
import { EXIT, type ExitCode, exitCodeOfStatus } from './exit.js';
import { addCommonOptions, type CommonOptions, connectOptions } from './options.js';
import { readPayload } from './payload.js';
import { renderAcknowledgement, renderAcknowledgements, renderPlan, renderPrograms, renderStatus } from './render.js';
import { harmless, type Style } from './style.js';
import { parseCount, parseDuration, parseGeneration, parseMoment } from './values.js';

/** Where output goes, so that tests can look at it. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  readonly style: Style;
}

interface SendOptions extends CommonOptions {
  readonly file: string;
  readonly host?: string;
  readonly wait: boolean;
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

interface QueryOptions extends CommonOptions {
  readonly host?: string;
  readonly timeout: number;
}

const VERB_SUMMARIES: Readonly<Record<Verb, string>> = {
  deploy: 'make a payload the whole desired state of a host',
  add: "add a payload's programs to what a host runs",
  delete: 'take programs away from a host, by name',
};

const EXAMPLES = `
Examples:
  $ l3afctl deploy -f web1.json --wait              what became of it decides the exit code
  $ generate-payload web1 | l3afctl add -f - --wait --timeout 10s
  $ l3afctl delete -f names.json --host web1 -o json
  $ l3afctl plan -f web1.json                       what a deploy would do
  $ l3afctl status                                  every agent that answers
  $ l3afctl programs --host web1
  $ l3afctl acks --host web1 --limit 5

Exit codes:
  0  applied or unchanged (without --wait: stored)      3  no answer in time
  1  failed, rejected, expired or superseded            4  NATS cannot be reached
  2  wrong usage`;

/** The command line; `exit` is told the code of a command that was run. */
export function buildProgram(version: string, terminal: Terminal, exit: (code: ExitCode) => void): Command {
  const program = addCommonOptions(new Command('l3afctl'))
    .description('Commands and questions to the agents of an L3AF fleet, over NATS')
    .version(version)
    .showHelpAfterError('(l3afctl --help tells more)')
    .addHelpText('after', EXAMPLES);
  program.configureOutput({ writeOut: terminal.out, writeErr: terminal.error });

  for (const verb of VERBS) {
    program
      .command(verb)
      .summary(VERB_SUMMARIES[verb])
      .description(`${capital(VERB_SUMMARIES[verb])}.`)
      .requiredOption('-f, --file <payload>', 'JSON file, or - for standard input')
      .option('--host <name>', 'the host; the host_name in the payload unless given')
      .option('--wait', 'wait for the acknowledgement', false)
      .addOption(durationOption('how long to wait', '60s'))
      .option('--id <id>', 'id of the command; the same id is never run twice')
      .option('--gen <number>', "the controller's generation for this host", parseGeneration)
      .option('--prev-gen <number>', 'the generation that has to have been applied before', parseGeneration)
      .option('--expires <when>', 'do not run it later than this: a time, or a duration from now', parseMoment)
      .addHelpText('after', `\nExample:\n  $ l3afctl ${verb} -f payload.json --wait`)
      .action(async (_options, command: Command) => exit(await send(verb, command.optsWithGlobals(), terminal)));
  }

  query('status', 'how agents and their hosts are; all of them unless one is named', renderStatus);
  query('programs', 'what is desired and what of it runs; on all hosts unless one is named', renderPrograms);

  program
    .command('plan')
    .summary('what a command would do, without doing it')
    .description('What a command would do. Everything is loaded through the verifier, and nothing is attached.')
    .requiredOption('-f, --file <payload>', 'JSON file, or - for standard input')
    .option('--host <name>', 'the host; the host_name in the payload unless given')
    .addOption(new Option('--verb <verb>', 'of the command').choices([...VERBS]).default('deploy'))
    .addHelpText('after', '\nExample:\n  $ l3afctl plan -f payload.json')
    .action(async (_options, command: Command) => {
      const options: PlanOptions = command.optsWithGlobals();
      const { json: payload, host: named } = await readPayload(options.file);
      const host = hostOf(options, named);
      const reply = await withClient(options, (client) =>
        client.request(host, 'plan', { verb: options.verb, payload }),
      );
      print(reply, options, terminal, renderPlan);
      exit(EXIT.done);
    });

  program
    .command('acks')
    .summary('the last acknowledgements of a host')
    .description('The last acknowledgements of a host, oldest first.')
    .requiredOption('--host <name>', 'the host')
    .option('--limit <number>', 'how many', parseCount, 20)
    .addHelpText('after', '\nExample:\n  $ l3afctl acks --host web1 --limit 5 -o json')
    .action(async (_options, command: Command) => {
      const options: CommonOptions & { host: string; limit: number } = command.optsWithGlobals();
      const list = await withClient(options, (client) => client.acks(options.host, { limit: options.limit }));
      print(list, options, terminal, renderAcknowledgements);
      exit(EXIT.done);
    });
  return program;

  function query<V extends RequestVerb>(
    verb: V & ('status' | 'programs'),
    description: string,
    render: (list: readonly ReplyOf<V>[], style: Style) => string[],
  ): void {
    program
      .command(verb)
      .summary(description)
      .description(`${capital(description)}.`)
      .option('--host <name>', 'one host')
      .addOption(durationOption('how long to gather answers, if no host is named', '2s'))
      .addHelpText('after', `\nExample:\n  $ l3afctl ${verb} --host web1`)
      .action(async (_options, command: Command) => {
        const options: QueryOptions = command.optsWithGlobals();
        const list = await withClient(options, (client) => ask(client, verb, options, terminal));
        print(list, options, terminal, render);
        exit(EXIT.done);
      });
  }
}

async function send(verb: Verb, options: SendOptions, terminal: Terminal): Promise<ExitCode> {
  const { body, host: named } = await readPayload(options.file);
  const host = hostOf(options, named);
  const publishing = { id: options.id, gen: options.gen, prevGen: options.prevGen, expires: options.expires };
  return withClient(options, async (client) => {
    if (!options.wait) {
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
    print(acknowledgement, options, terminal, (answer: Acknowledgement, style) => renderAcknowledgement(answer, style));
    return exitCodeOfStatus(acknowledgement.status);
  });
}

function hostOf(options: { readonly host?: string }, named: string | undefined): string {
  const host = options.host ?? named;
  if (host !== undefined) return host;
  throw new AgentError('CONFIG_INVALID', 'The payload names no host; say which with --host');
}

/** One host's answer, or those of all hosts that answer in time. */
async function ask<V extends RequestVerb>(
  client: FleetClient,
  verb: V & ('status' | 'programs'),
  options: QueryOptions,
  terminal: Terminal,
): Promise<ReplyOf<V>[]> {
  const parameters = {} as Parameters<typeof client.request<V>>[2];
  if (options.host !== undefined) return [await client.request<V>(options.host, verb, parameters)];
  const onFault = (error: unknown) => terminal.error(`${harmless(error instanceof Error ? error.message : '')}\n`);
  const list = await client.requestAll<V>(verb, parameters, { gatherMs: options.timeout, onFault });
  if (list.length === 0) throw new AgentError('TIMEOUT', `No agent answered within ${options.timeout / 1000} s`);
  return list;
}

async function withClient<T>(options: CommonOptions, work: (client: FleetClient) => Promise<T>): Promise<T> {
  const client = await FleetClient.connect(connectOptions(options));
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

function print<T>(
  value: T,
  { output }: CommonOptions,
  { out, style }: Terminal,
  render: (value: T, style: Style) => string[],
): void {
  const lines = output === 'json' ? [JSON.stringify(value, undefined, 2)] : render(value, style);
  out(lines.map((line) => `${line}\n`).join(''));
}

function durationOption(description: string, initial: string): Option {
  return new Option('--timeout <duration>', description)
    .default(parseDuration(initial), initial)
    .argParser(parseDuration);
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
