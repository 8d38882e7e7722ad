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

/** Width of drawings that go to a file or a pipe. */
const PICTURE_WIDTH = 100;

const SHOW_DESCRIPTION = [
  'Draw the chains of a host in the order in which packets pass them: how each chain is attached, its programs with their ids, and the slots between them. Differences from the desired state are red.',
  "The host's probes follow the chains, each with its link.",
  'The kernel counts packets and their time for the attached program, including all programs that it calls.',
].join('\n\n');

/** `status`, `show`, `programs` and `acks`. */
export function addQuestions(program: Command, terminal: Terminal, exit: Exit): void {
  query('status', 'show the state of agents and their hosts', renderStatus);

  program
    .command('show')
    .summary('draw the chains as packets pass them, and what is wrong with them')
    .description(SHOW_DESCRIPTION)
    .option('--host <name>', 'one host (default: all hosts that answer)')
    .option('--iface <name>', 'only the chains of this interface')
    .option('--stats <duration>', 'let the kernel count packets for this time, at most 60s', parseWindow)
    .addOption(durationOption('how long to wait for answers when all hosts are asked', '2s'))
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

  query('programs', 'list the desired programs, and which of them run', renderPrograms);

  program
    .command('acks')
    .summary('list the last acknowledgements of a host')
    .description('List the last acknowledgements of a host, oldest first.')
    .requiredOption('--host <name>', 'the host')
    .option('--limit <number>', 'how many', parseCount, 20)
    .addHelpText('after', '\nExample:\n  $ l3afctl acks --host web1 --limit 5 -o json')
    .action(async (_options, command: Command) => {
      const options: CommonOptions & { host: string; limit: number } = command.optsWithGlobals();
      const list = await withClient(options, (client) => client.acks(options.host, { limit: options.limit }));
      const none = `There are no acknowledgements of ${harmless(options.host)}: it has not answered any command, or its name is different.`;
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
      .option('--host <name>', 'one host (default: all hosts that answer)')
      .addOption(durationOption('how long to wait for answers when all hosts are asked', '2s'))
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

/**
 * The answer of one host, or the answers of all hosts that answer in time.
 *
 * @param extraMs extra time that this request takes, in milliseconds
 */
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
