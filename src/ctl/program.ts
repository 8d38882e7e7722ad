import { Command, Help } from 'commander';
import { addCommands } from './commands.js';
import { addCommonOptions } from './options.js';
import { addPackageCommands } from './package.js';
import { addQuestions } from './requests.js';
import type { Exit, Terminal } from './session.js';

const EXAMPLES = `
Examples:
  $ l3afctl plan -f web1.json            show what a deploy would do
  $ l3afctl deploy -f web1.json --wait   deploy; exit code shows the result
  $ generate-payload web1 | l3afctl add -f - --wait --timeout 10s
  $ l3afctl delete -f names.json --host web1 -o json
  $ l3afctl status                       list all agents that answer
  $ l3afctl show --host web1 --stats 2s  draw the chains and count packets
  $ l3afctl acks --host web1 --limit 5
  $ l3afctl package build build/port-drop port-drop 2.0 --repo /srv/l3af

Exit codes:
  0  applied or unchanged (without --wait: stored)
  1  failed, rejected, expired, superseded, or refused by NATS (plan: refused)
  2  wrong usage
  3  no answer in time
  4  no connection to NATS, or no stream there`;

const ELSEWHERE = '\nFor options to connect to NATS, and -o json for scripts, see l3afctl --help';

/** Shows in the usage line which options are required. */
const HELP: Partial<Help> = {
  subcommandTerm: (command) => command.name(),
  commandUsage(command) {
    const mandatory = command.options
      .filter((option) => option.mandatory)
      .map(({ flags }) => flags.replace(/^-., /, ''));
    return Help.prototype.commandUsage.call(this, command).replace('[options]', [...mandatory, '[options]'].join(' '));
  },
  optionDescription(option) {
    const text = Help.prototype.optionDescription.call(this, option);
    if (!option.mandatory) return text;
    return option.envVar === undefined ? `${text} (required)` : text.replace('(env: ', '(required, env: ');
  },
};

/** The command line. Its commands throw instead of ending the process. */
export function buildProgram(version: string, terminal: Terminal, exit: Exit): Command {
  const program = addCommonOptions(new Command('l3afctl'))
    .description('Send commands and queries to the agents of an L3AF fleet over NATS.')
    .version(version)
    .helpCommand(false)
    .configureHelp(HELP)
    .addHelpText('after', EXAMPLES);
  program.configureOutput({ writeOut: terminal.out, writeErr: terminal.error });
  program.commandsGroup('Change a host:');
  addCommands(program, terminal, exit);
  program.commandsGroup('Inspect hosts:');
  addQuestions(program, terminal, exit);
  program.commandsGroup('Packages:');
  addPackageCommands(program, terminal, exit);
  program.commandsGroup('About l3afctl:');
  program
    .command('version')
    .summary('print the version, as --version does')
    .description('Print the version of l3afctl. Those of the agents are in l3afctl status.')
    .action(() => terminal.out(`${version}\n`));
  for (const command of withSubcommands(program)) {
    if (command !== program) command.addHelpText('after', ELSEWHERE);
    command
      .exitOverride()
      .showHelpAfterError(whereToLook(command))
      .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, `${wordsOf(command)}: `)) });
  }
  return program;
}

/** The full name of a command: `l3afctl package build`. */
export function wordsOf(command: Command): string {
  return command.parent === null ? command.name() : `${wordsOf(command.parent)} ${command.name()}`;
}

/** The line that points to the help after wrong usage. */
export function whereToLook(command: Command): string {
  return `See ${wordsOf(command)} --help`;
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}
