import { type ApiError, ErrorCode as NatsCode, NatsError } from 'nats';
import { AgentError } from '../errors.js';

/*
 * Everything that a NATS server can refuse, in words, in one place: what happened, and what somebody can do about it.
 * The numbers are those of `server/errors.json` of nats-server.
 */

/** What the refused request was about. */
export interface About {
  /** Name of the stream. */
  readonly stream?: string | undefined;
  /** The server's limit for a message, in bytes. */
  readonly maxPayload?: number | undefined;
}

interface Refusal {
  /** A sentence without its full stop. `{stream}` stands for the stream, `{detail}` for the server's own words. */
  readonly what: string;
  /** What somebody can do about it. */
  readonly advice: string;
  /** Whether the same request may succeed later. */
  readonly transient: boolean;
}

const later = (what: string, advice: string): Refusal => ({ what, advice, transient: true });
const never = (what: string, advice: string): Refusal => ({ what, advice, transient: false });

const FREE_SPACE = 'remove messages of streams, or raise';
const ELECTION = 'it chooses one by itself as soon as a majority of its servers is up';
const NO_JETSTREAM = 'JetStream is not enabled';
const OFFLINE = 'start the servers that have it, or give it more than one replica';

/** By JetStream's own error number. */
const API_REFUSALS: ReadonlyMap<number, Refusal> = new Map<number, Refusal>([
  [
    10002,
    later(
      'The account has used up its JetStream storage, so {stream} cannot grow',
      `${FREE_SPACE} the limit of the account (max_file, max_mem)`,
    ),
  ],
  [10004, later('Not all servers of the cluster have answered', 'check that they are up')],
  [
    10005,
    later(
      'The cluster has no servers that could hold {stream} ({detail})',
      'start the servers that are down, or ask for fewer replicas',
    ),
  ],
  [10008, later('JetStream of the cluster has no leader at the moment', ELECTION)],
  [10009, later('The server is not the leader of JetStream', ELECTION)],
  [10010, never('The request needs a cluster, and this server is in none', 'ask for one replica')],
  [
    10023,
    later(
      'The NATS server has no space left for {stream}: its JetStream storage or that of the account is full',
      `${FREE_SPACE} max_file_store of the server or the limit of the account (max_file)`,
    ),
  ],
  [
    10026,
    later(
      'The stream {stream} has as many consumers as it or its account may have',
      'raise max_consumers of the account or the stream, or delete consumers that nobody uses; each host needs one for its commands, and whoever waits for an answer needs one for that time',
    ),
  ],
  [
    10027,
    later(
      'The account has as many streams as it may have, so {stream} cannot be created',
      'raise max_streams of the account, or delete streams',
    ),
  ],
  [10028, later('The NATS server has no memory left for {stream}', `${FREE_SPACE} max_memory_store of the server`)],
  [10035, later('The NATS server does not know the account', 'check the credentials and the accounts of the server')],
  [
    10039,
    later(`${NO_JETSTREAM} for this account`, 'enable it for the account: accounts { NAME { jetstream: enabled } }'),
  ],
  [
    10047,
    later(
      'The NATS server has too little space for {stream}: its JetStream storage is full or reserved',
      `${FREE_SPACE} max_file_store of the server`,
    ),
  ],
  [
    10054,
    never(
      'The message is larger than the stream {stream} allows (max_msg_size)',
      'raise max_msg_size of the stream, or send less at a time',
    ),
  ],
  [
    10058,
    never('A stream {stream} exists with other settings', 'compare its settings with those in the documentation'),
  ],
  [10059, later('There is no stream {stream}', 'start an agent that may create it, or create it at enrolment')],
  [10060, never('The subject belongs to another stream than {stream}', 'correct the subjects of the streams')],
  [10065, never('Another stream already captures subjects of {stream}', 'remove or rename it')],
  [
    10074,
    never('{stream} cannot have more than one replica, since the server is in no cluster', 'ask for one replica'),
  ],
  [10076, later(`${NO_JETSTREAM} on the NATS server`, 'enable it: jetstream { store_dir: … } in its configuration')],
  [10097, never('The headers of the message are larger than the server allows (64 KiB)', 'make them shorter')],
  [10109, never('The stream {stream} is sealed: nothing can be stored in it', 'delete it and create it again')],
  [
    10113,
    later(
      'The account demands a maximum size of every stream (max_bytes_required), so {stream} cannot be created without',
      'create it with max_bytes, or remove max_bytes_required from the account',
    ),
  ],
  [10118, later('The stream {stream} is offline: no server that has it is up', OFFLINE)],
  [10119, later('The consumer is offline: no server that has it is up', OFFLINE)],
  [
    10120,
    later('The account has no JetStream limit for this number of replicas', 'set limits for this tier of the account'),
  ],
  [
    10122,
    later(
      'The stream {stream} may not be as large as asked for',
      'raise the limit of the account for the size of a stream (max_stream_bytes)',
    ),
  ],
  [10158, later('The same message is being stored at this moment', 'wait for it')],
  [10167, later('The stream {stream} gets more messages than it can store', 'send fewer at a time')],
  [10194, later('The stream {stream} is offline: {detail}', OFFLINE)],
  [10195, later('The consumer is offline: {detail}', OFFLINE)],
]);

/** "Storing failed" has one number, and the reason only in words (`ErrMaxMsgs` … in `server/store.go` of nats-server). */
const STORE_FAILED = 10077;
const STORE_REFUSALS: ReadonlyMap<string, Refusal> = new Map([
  ['maximum messages exceeded', full('max_msgs')],
  ['maximum bytes exceeded', full('max_bytes')],
  ['maximum messages per subject exceeded', full('max_msgs_per_subject')],
]);

function full(limit: string): Refusal {
  const what = `The stream {stream} is full: it has reached its limit ${limit}, and discards new messages`;
  return later(what, `purge what is no longer needed, or raise ${limit} of the stream`);
}

const CHECK_CA = 'name the certificate authority of the server (nats_tls_ca, --tls-ca)';
const CHECK_CREDENTIALS =
  'check the credentials file, the nkey, user and password, or the token, whichever the server asks for';
const HANDSHAKE_FIRST = 'nats_tls_handshake_first (--tls-handshake-first)';
const TLS_FILES = '(nats_tls_cert and nats_tls_key, --tls-cert and --tls-key)';
const UNTRUSTED = 'The certificate of the NATS server is not signed by an authority that is known here';

/** The code of the error for a connection that ended before the server has introduced itself. */
const CLOSED_SILENTLY = 'CLOSED_SILENTLY';

/** What prevents a connection, and what else has no number: by the code of nats.js, of Node or of OpenSSL. */
const CONNECTION_REFUSALS: ReadonlyMap<string, Refusal> = new Map<string, Refusal>([
  [NatsCode.AuthorizationViolation, later('The NATS server refused the credentials', CHECK_CREDENTIALS)],
  [NatsCode.AuthenticationTimeout, later('The NATS server did not get credentials in time', CHECK_CREDENTIALS)],
  [NatsCode.AuthenticationExpired, later('The credentials have expired', 'renew them')],
  [NatsCode.AccountExpired, later('The account of these credentials has expired', 'renew it')],
  [NatsCode.BadAuthentication, later('The credentials do not fit what the server asks for', CHECK_CREDENTIALS)],
  [NatsCode.BadCreds, later('The credentials file cannot be read as one', 'get a new one')],
  [NatsCode.PermissionsViolation, never('The account is not permitted to do that ({detail})', 'grant the permission')],
  [
    NatsCode.MaxPayloadExceeded,
    never(
      'The message is larger than the NATS server allows (max_payload{payload})',
      'raise max_payload of the server, or send less at a time',
    ),
  ],
  [
    NatsCode.ServerOptionNotAvailable,
    later(
      'The NATS server offers no TLS, but TLS was asked for',
      'enable TLS on the server, or remove tls:// and the TLS files',
    ),
  ],
  [
    'ERR_TLS_CERT_ALTNAME_INVALID',
    later(
      'The certificate of the NATS server is for another name: {detail}',
      'connect to a name or an address that is in the certificate, or get one that has it',
    ),
  ],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', later(UNTRUSTED, CHECK_CA)],
  ['SELF_SIGNED_CERT_IN_CHAIN', later(UNTRUSTED, CHECK_CA)],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', later(UNTRUSTED, CHECK_CA)],
  ['UNABLE_TO_GET_ISSUER_CERT', later(UNTRUSTED, CHECK_CA)],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', later(UNTRUSTED, CHECK_CA)],
  ['CERT_SIGNATURE_FAILURE', later(UNTRUSTED, CHECK_CA)],
  ['CERT_HAS_EXPIRED', later('The certificate of the NATS server has expired', 'renew it')],
  ['CERT_NOT_YET_VALID', later('The certificate of the NATS server is not valid yet', 'check the clocks')],
  [
    'ERR_SSL_WRONG_VERSION_NUMBER',
    later(
      'The NATS server does not begin with a TLS handshake',
      `switch ${HANDSHAKE_FIRST} off, or on at the server (handshake_first)`,
    ),
  ],
  [
    'ERR_SSL_PACKET_LENGTH_TOO_LONG',
    later(
      'The NATS server does not begin with a TLS handshake',
      `switch ${HANDSHAKE_FIRST} off, or on at the server (handshake_first)`,
    ),
  ],
  [
    'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    later('The NATS server asks for a client certificate', `name one ${TLS_FILES}`),
  ],
  [
    'ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE',
    later('The NATS server refused the client certificate', `check it ${TLS_FILES}`),
  ],
  [
    'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA',
    later('The NATS server does not know the authority of the client certificate', `check it ${TLS_FILES}`),
  ],
  ['ECONNREFUSED', later('The connection was refused', 'check that the NATS server is running there')],
  ['ENOTFOUND', later('The name of the NATS server cannot be resolved', 'check the name and the resolver')],
  ['EAI_AGAIN', later('The name of the NATS server cannot be resolved at the moment', 'check the resolver')],
  ['EHOSTUNREACH', later('There is no route to the NATS server', 'check the address and the network')],
  ['ENETUNREACH', later('There is no route to the NATS server', 'check the address and the network')],
  ['ETIMEDOUT', later('The NATS server does not answer', 'check the address and the network')],
  [
    NatsCode.Timeout,
    later(
      'The NATS server did not answer in time',
      `check that it runs there; one that waits for a TLS handshake says nothing either (${HANDSHAKE_FIRST})`,
    ),
  ],
  [NatsCode.ConnectionTimeout, later('The NATS server did not answer in time', 'check that it runs there')],
  [
    CLOSED_SILENTLY,
    later(
      'What listens there closed the connection without a word',
      `set ${HANDSHAKE_FIRST} if the NATS server waits for a TLS handshake (handshake_first); else check the address`,
    ),
  ],
  [
    'ECONNRESET',
    later(
      'The NATS server closed the connection at once',
      `check the address, and ${HANDSHAKE_FIRST} if the server uses TLS`,
    ),
  ],
  [NatsCode.ConnectionClosed, later('The connection is closed', 'connect again')],
  [NatsCode.Disconnect, later('The connection was lost', 'wait until it is restored')],
]);

/**
 * What a server has refused, in words. Also what the client has refused on its behalf, such as a message that is too
 * large.
 *
 * @returns undefined for an error that is no refusal: no answer, or a connection that broke
 */
export function refusalOf(error: unknown, about: About = {}): AgentError | undefined {
  if (!(error instanceof NatsError)) return undefined;
  const { api_error: api } = error;
  if (api !== undefined) return inWords(apiRefusal(api), api.description, error, about);
  if (!REFUSED.has(error.code)) return undefined;
  const known = CONNECTION_REFUSALS.get(error.code);
  return known && inWords(known, error.message.replaceAll("'", ''), error, about);
}

/** The codes of nats.js, on an open connection, that are an answer. */
const REFUSED: ReadonlySet<string> = new Set([NatsCode.MaxPayloadExceeded, NatsCode.PermissionsViolation]);

function apiRefusal({ code, err_code = 0, description }: ApiError): Refusal {
  const known = err_code === STORE_FAILED ? STORE_REFUSALS.get(description) : API_REFUSALS.get(err_code);
  const advice = `see error ${err_code} of nats-server`;
  return known ?? { what: 'The NATS server refused a request for {stream}: {detail}', advice, transient: code === 503 };
}

/** The refusal with a number of JetStream, for a request that was not even sent. */
export function refusalOfNumber(number: number, about: About): AgentError | undefined {
  const known = API_REFUSALS.get(number);
  return known && inWords(known, '', undefined, about);
}

/** Why no connection could be made, in words. */
export function connectionRefusal(error: unknown): AgentError {
  for (const code of codesOf(error)) {
    const known = CONNECTION_REFUSALS.get(code);
    if (known !== undefined) return inWords(known, detailOf(error), error, {}, 'BROKER_UNREACHABLE');
  }
  const unknown = later('The connection failed: {detail}', 'check the address and the server');
  return inWords(unknown, detailOf(error), error, {}, 'BROKER_UNREACHABLE');
}

/** The codes of an error, the most exact one first. */
export function codesOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const code = 'code' in error ? String(error.code) : '';
  const inner = error instanceof NatsError ? error.chainedError : undefined;
  // nats.js takes a connection that ends without an error for one that was refused.
  if (code === NatsCode.ConnectionRefused) return [...codesOf(inner), CLOSED_SILENTLY];
  // Node puts the code of the resolver into the message only, once nats.js has wrapped it.
  const resolver = /getaddrinfo (ENOTFOUND|EAI_AGAIN)/.exec(error.message)?.[1];
  return [...codesOf(inner), ...(resolver === undefined ? [] : [resolver]), code];
}

function detailOf(error: unknown): string {
  const inner = error instanceof NatsError ? error.chainedError : undefined;
  const names = namesOf(inner ?? error);
  if (names !== undefined) return names;
  const { message } = (inner ?? error) as Error;
  return message === '' || message === undefined ? String(error) : message.replaceAll("'", '');
}

/** For whom a certificate is, if that is what is wrong (`checkServerIdentity` of Node). */
function namesOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('host' in error && 'cert' in error)) return undefined;
  const { subjectaltname = '' } = error.cert as { readonly subjectaltname?: string };
  const names = subjectaltname.split(/, */).map((name) => name.replace(/^(DNS|IP Address|IP):/, ''));
  return `it is for ${names.filter((name) => name !== '').join(', ') || 'nobody'}, not for ${error.host}`;
}

/** A sentence of this table as it stands after a colon. */
export function continued(sentence: string): string {
  return sentence.replace(/^(The|There|What|Not|Another) /, (word) => word.toLowerCase());
}

function inWords(
  { what, advice, transient }: Refusal,
  detail: string,
  cause: unknown,
  { stream = 'the stream', maxPayload }: About,
  code: 'BROKER_REFUSED' | 'BROKER_UNREACHABLE' = 'BROKER_REFUSED',
): AgentError {
  const payload = maxPayload === undefined ? '' : `, ${maxPayload} bytes`;
  const sentence = what.replace('{stream}', stream).replace('{payload}', payload).replace('{detail}', detail);
  return new AgentError(code, `${sentence}; ${advice}`, { cause, transient });
}
