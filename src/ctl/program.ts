import { Command } from 'commander';
import { addCommands } from './commands.js';
import { addCommonOptions } from './options.js';
import { addPackageCommands } from './package.js';
import { addQuestions } from './questions.js';
import type { Exit, Terminal } from './session.js';

const EXAMPLES = `
Examples:
  $ l3afctl plan -f web1.json                       what a deploy would do
  $ l3afctl deploy -f web1.json --wait              what became of it decides the exit code
  $ generate-payload web1 | l3afctl add -f - --wait --timeout 10s
  $ l3afctl delete -f names.json --host web1 -o json
  $ l3afctl status                                  every agent that answers
  $ l3afctl show --host web1 --stats 2s             what packets pass, and how many do
  $ l3afctl acks --host web1 --limit 5
  $ l3afctl package build build/port-drop port-drop 2.0 --repo /srv/l3af

Exit codes:
  0  applied or unchanged (without --wait: stored)      3  no answer in time
  1  failed, rejected, expired or superseded            4  NATS cannot be reached
  2  wrong usage`;

const ELSEWHERE = '\nWhere NATS is, and -o json for scripts: l3afctl --help';

/** The command line. */
export function buildProgram(version: string, terminal: Terminal, exit: Exit): Command {
  const program = addCommonOptions(new Command('l3afctl'))
    .description('Commands and questions to the agents of an L3AF fleet, over NATS')
    .version(version)
    .helpCommand(false)
    .showHelpAfterError('(l3afctl --help tells more)')
    .addHelpText('after', EXAMPLES);
  program.configureOutput({ writeOut: terminal.out, writeErr: terminal.error });
  program.commandsGroup('Commands to a host:');
  addCommands(program, terminal, exit);
  program.commandsGroup('Looking at hosts:');
  addQuestions(program, terminal, exit);
  program.commandsGroup('Packages:');
  addPackageCommands(program, terminal, exit);
  for (const command of program.commands) command.addHelpText('after', ELSEWHERE);
  return program;
}
