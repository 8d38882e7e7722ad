import type { Command } from 'commander';
import type { FleetClient } from '../client/fleet-client.js';
import { AgentError } from '../errors.js';
import type { ReplyOf, RequestOf, RequestVerb } from '../messages/requests.js';
import { EXIT } from './exit.js';
import type { CommonOptions } from './options.js';
import { renderAcknowledgements, renderPrograms, renderStatus } from './render.js';
import { capital, durationOption, type Exit, print, type Terminal, withClient } from './session.js';
import { renderChains } from './show.js';
import { harmless, type Style } from './style.js';
import { parseCount, parseWindow } from './values.js';

interface QueryOptions extends CommonOptions {
  readonly host?: string;
  readonly timeout: number;
}

interface ShowOptions extends QueryOptions {
  readonly iface?: string;
  readonly stats?: number;
}

/** Of pictures that go into a file or a pipe. */
const PICTURE_WIDTH = 100;

const SHOW_DESCRIPTION = [
  'The chains of a host as packets pass them: how each is attached, its programs in order with their ids, the slots between them, and in red what is not as desired.',
  'Probes of the host stand behind the chains, each with what holds it.',
  'Packets, and the time that each takes, are as the kernel counts them: for the program that is attached, with all that it calls behind it.',
].join('\n\n');

/** `status`, `show`, `programs` and `acks`. */
export function addQuestions(program: Command, terminal: Terminal, exit: Exit): void {
  query('status', 'how agents and their hosts are', renderStatus);

  program
    .command('show')
    .summary('the chains as packets pass them, and what is wrong with them')
    .description(SHOW_DESCRIPTION)
    .option('--host <name>', 'one host; all that answer unless given')
    .option('--iface <name>', 'only the chains of this interface')
    .option('--stats <duration>', 'have the kernel count packets for so long, 60s at most', parseWindow)
    .addOption(durationOption('how long to gather answers of all hosts', '2s'))
    .addHelpText('after', '\nExamples:\n  $ l3afctl show --host web1\n  $ l3afctl show --host web1 --stats 2s')
    .action(async (_options, command: Command) => {
      const options: ShowOptions = command.optsWithGlobals();
      const { iface, stats } = options;
      const parameters = { ...(iface !== undefined && { iface }), ...(stats !== undefined && { stats_ms: stats }) };
      const list = await withClient(options, (client) =>
        ask(client, 'chains', parameters, options, terminal, stats ?? 0),
      );
      print(list, options, terminal, (chains, style) => renderChains(chains, style, terminal.columns ?? PICTURE_WIDTH));
      exit(EXIT.done);
    });

  query('programs', 'what is desired and what of it runs', renderPrograms);

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
      const none = `There are no acknowledgements of ${harmless(options.host)}: it has not answered a command, or is called otherwise.`;
      print(list, options, terminal, (acks, ...how) =>
        acks.length === 0 ? [none] : renderAcknowledgements(acks, ...how),
      );
      exit(EXIT.done);
    });

  function query<Query extends 'status' | 'programs'>(
    verb: Query,
    description: string,
    render: (list: readonly ReplyOf<Query>[], style: Style, width: number) => string[],
  ): void {
    program
      .command(verb)
      .summary(description)
      .description(`${capital(description)}.`)
      .option('--host <name>', 'one host; all that answer unless given')
      .addOption(durationOption('how long to gather answers of all hosts', '2s'))
      .addHelpText('after', `\nExample:\n  $ l3afctl ${verb} --host web1`)
      .action(async (_options, command: Command) => {
        const options: QueryOptions = command.optsWithGlobals();
        const list = await withClient(options, (client) =>
          ask(client, verb, {} as RequestOf<Query>, options, terminal),
        );
        print(list, options, terminal, render);
        exit(EXIT.done);
      });
  }
}

/** One host's answer, or those of all hosts that answer in time. @param extraMs that the answer takes longer than others */
async function ask<V extends RequestVerb>(
  client: FleetClient,
  verb: V,
  parameters: RequestOf<V>,
  options: QueryOptions,
  terminal: Terminal,
  extraMs = 0,
): Promise<ReplyOf<V>[]> {
  if (options.host !== undefined) return [await client.request<V>(options.host, verb, parameters, extraMs)];
  const onFault = (error: unknown) => terminal.error(`${harmless(error instanceof Error ? error.message : '')}\n`);
  const gatherMs = options.timeout + extraMs;
  const list = await client.requestAll<V>(verb, parameters, { gatherMs, onFault });
  if (list.length === 0) throw new AgentError('TIMEOUT', `No agent answered within ${gatherMs / 1000} s`);
  return list;
}
