import { Command, Help } from 'commander';
import { addCommands } from './commands.js';
import { addCommonOptions } from './options.js';
import { addPackageCommands } from './package.js';
import { addQuestions } from './questions.js';
import type { Exit, Terminal } from './session.js';

const EXAMPLES = `
Examples:
  $ l3afctl plan -f web1.json            what a deploy would do
  $ l3afctl deploy -f web1.json --wait   exits by what became of it
  $ generate-payload web1 | l3afctl add -f - --wait --timeout 10s
  $ l3afctl delete -f names.json --host web1 -o json
  $ l3afctl status                       every agent that answers
  $ l3afctl show --host web1 --stats 2s  what packets pass, and how many
  $ l3afctl acks --host web1 --limit 5
  $ l3afctl package build build/port-drop port-drop 2.0 --repo /srv/l3af

Exit codes:
  0  applied or unchanged (without --wait: stored)
  1  failed, rejected, expired or superseded; a plan: refused
  2  wrong usage
  3  no answer in time
  4  NATS cannot be reached`;

const ELSEWHERE = '\nWhere NATS is, and -o json for scripts: l3afctl --help';

/** Says which options there must be; what else commands take is in their own help. */
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
    .description('Commands and questions to the agents of an L3AF fleet, over NATS')
    .version(version)
    .helpCommand(false)
    .configureHelp(HELP)
    .addHelpText('after', EXAMPLES);
  program.configureOutput({ writeOut: terminal.out, writeErr: terminal.error });
  program.commandsGroup('Commands to a host:');
  addCommands(program, terminal, exit);
  program.commandsGroup('Looking at hosts:');
  addQuestions(program, terminal, exit);
  program.commandsGroup('Packages:');
  addPackageCommands(program, terminal, exit);
  for (const command of withSubcommands(program)) {
    if (command !== program) command.addHelpText('after', ELSEWHERE);
    command
      .exitOverride()
      .showHelpAfterError(whereToLook(command))
      .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, `${wordsOf(command)}: `)) });
  }
  return program;
}

/** As it is called: `l3afctl package build`. */
export function wordsOf(command: Command): string {
  return command.parent === null ? command.name() : `${wordsOf(command.parent)} ${command.name()}`;
}

/** What a person reads after having called a command wrongly. */
export function whereToLook(command: Command): string {
  return `See ${wordsOf(command)} --help`;
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}
