import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { ConnectOptions } from '../client/connection.js';
import { isSwitchedOn, parseServers } from './values.js';

/** Options that every command accepts. */
export interface CommonOptions {
  readonly server?: readonly string[];
  readonly creds?: string;
  readonly nkey?: string;
  readonly userFile?: string;
  readonly passwordFile?: string;
  readonly tokenFile?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsHandshakeFirst?: boolean;
  readonly prefix: string;
  readonly jsApiPrefix?: string;
  readonly inboxPrefix?: string;
  readonly output: 'table' | 'json';
}

/** Read here, since commander takes any value of it for true: with a value, the option would swallow the subcommand. */
const HANDSHAKE_FIRST = 'L3AF_NATS_TLS_HANDSHAKE_FIRST';

const DEFAULT_SERVER = 'nats://127.0.0.1:4222';

export function addCommonOptions(program: Command): Command {
  return program
    .addOption(
      new Option('-s, --server <urls>', 'NATS servers, separated by commas')
        .env('L3AF_NATS_URL')
        .default(undefined, `that of NATS_URL, of the agent on this host, or ${DEFAULT_SERVER}`)
        .argParser(parseServers),
    )
    .addOption(new Option('--creds <file>', 'credentials file').env('L3AF_NATS_CREDS'))
    .addOption(new Option('--nkey <file>', 'file with the seed of an nkey').env('L3AF_NATS_NKEY').conflicts('creds'))
    .addOption(
      new Option('--user-file <file>', 'file with the name of the user')
        .env('L3AF_NATS_USER_FILE')
        .conflicts(['creds', 'nkey', 'tokenFile']),
    )
    .addOption(new Option('--password-file <file>', 'file with the password').env('L3AF_NATS_PASSWORD_FILE'))
    .addOption(
      new Option('--token-file <file>', 'file with the token').env('L3AF_NATS_TOKEN_FILE').conflicts(['creds', 'nkey']),
    )
    .addOption(new Option('--tls-ca <file>', 'CA certificates to trust').env('L3AF_NATS_TLS_CA'))
    .addOption(new Option('--tls-cert <file>', 'client certificate').env('L3AF_NATS_TLS_CERT'))
    .addOption(new Option('--tls-key <file>', 'key of the client certificate').env('L3AF_NATS_TLS_KEY'))
    .addOption(
      new Option(
        '--tls-handshake-first',
        `begin with the TLS handshake (handshake_first of the server; env: ${HANDSHAKE_FIRST})`,
      ),
    )
    .addOption(new Option('--prefix <tokens>', 'first token of every subject').env('L3AF_PREFIX').default('l3af'))
    .addOption(
      new Option('--js-api-prefix <tokens>', 'subject prefix of the JetStream API, if not $JS.API').env(
        'L3AF_JS_API_PREFIX',
      ),
    )
    .addOption(
      new Option('--inbox-prefix <tokens>', 'prefix of reply subjects, if not _INBOX').env('L3AF_INBOX_PREFIX'),
    )
    .addOption(
      new Option('-o, --output <format>', 'table for people, json for scripts')
        .choices(['table', 'json'])
        .default('table'),
    );
}

/** Where the agent leaves the address of its own server, with the password; only root can read it. */
const STATE_DIR = '/var/lib/l3af-agent';

/** The servers where none are named: those of the `nats` command line, or the one that the agent of this host has started. */
function serversHere(): readonly string[] {
  const { NATS_URL: named, L3AF_STATE_DIR: stateDir = STATE_DIR } = process.env;
  if (named !== undefined && named.replaceAll(/[\s,]/g, '') !== '') return parseServers(named);
  try {
    return [readFileSync(join(stateDir, 'nats', 'url'), 'utf8').trim()];
  } catch {
    return [DEFAULT_SERVER];
  }
}

export function connectOptions(options: CommonOptions): ConnectOptions {
  return {
    servers: options.server ?? serversHere(),
    name: 'l3afctl',
    prefix: options.prefix,
    credsFile: options.creds,
    nkeyFile: options.nkey,
    userFile: options.userFile,
    passwordFile: options.passwordFile,
    tokenFile: options.tokenFile,
    tls: {
      caFile: options.tlsCa,
      certFile: options.tlsCert,
      keyFile: options.tlsKey,
      handshakeFirst: options.tlsHandshakeFirst ?? isSwitchedOn(HANDSHAKE_FIRST),
    },
    inboxPrefix: options.inboxPrefix,
    jsApiPrefix: options.jsApiPrefix,
  };
}
