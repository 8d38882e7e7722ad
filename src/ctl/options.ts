import { type Command, Option } from 'commander';
import type { ConnectOptions } from '../client/connection.js';
import { parseServers } from './values.js';

/** What every command understands. */
export interface CommonOptions {
  readonly server: readonly string[];
  readonly creds?: string;
  readonly nkey?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly prefix: string;
  readonly jsApiPrefix?: string;
  readonly inboxPrefix?: string;
  readonly output: 'table' | 'json';
}

const DEFAULT_SERVER = 'nats://127.0.0.1:4222';

export function addCommonOptions(program: Command): Command {
  return program
    .addOption(
      new Option('-s, --server <urls>', 'NATS servers, joined by commas')
        .env('L3AF_NATS_URL')
        .default([DEFAULT_SERVER], DEFAULT_SERVER)
        .argParser(parseServers),
    )
    .addOption(new Option('--creds <file>', 'credentials file').env('L3AF_NATS_CREDS'))
    .addOption(new Option('--nkey <file>', 'file with the seed of an nkey').env('L3AF_NATS_NKEY').conflicts('creds'))
    .addOption(new Option('--tls-ca <file>', 'certificates to trust').env('L3AF_NATS_TLS_CA'))
    .addOption(new Option('--tls-cert <file>', 'own certificate').env('L3AF_NATS_TLS_CERT'))
    .addOption(new Option('--tls-key <file>', "own certificate's key").env('L3AF_NATS_TLS_KEY'))
    .addOption(new Option('--prefix <tokens>', 'first token of every subject').env('L3AF_PREFIX').default('l3af'))
    .addOption(new Option('--js-api-prefix <tokens>', "JetStream's API, if not $JS.API").env('L3AF_JS_API_PREFIX'))
    .addOption(new Option('--inbox-prefix <tokens>', 'reply subjects, if not _INBOX').env('L3AF_INBOX_PREFIX'))
    .addOption(
      new Option('-o, --output <format>', 'for people or for scripts').choices(['table', 'json']).default('table'),
    );
}

export function connectOptions(options: CommonOptions): ConnectOptions {
  return {
    servers: options.server,
    name: 'l3afctl',
    prefix: options.prefix,
    credsFile: options.creds,
    nkeyFile: options.nkey,
    tls: { caFile: options.tlsCa, certFile: options.tlsCert, keyFile: options.tlsKey },
    inboxPrefix: options.inboxPrefix,
    jsApiPrefix: options.jsApiPrefix,
  };
}
