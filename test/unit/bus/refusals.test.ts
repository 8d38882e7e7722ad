import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ErrorCode, NatsError } from 'nats';
import { inWords, isNoResponders, isTransient } from '../../../src/bus/nats-errors.js';
import { connectionRefusal, refusalOf } from '../../../src/bus/refusals.js';
import { AgentError } from '../../../src/errors.js';

function apiError(code: number, number: number, description: string): NatsError {
  const error = new NatsError(description, String(code));
  error.api_error = { code, err_code: number, description };
  return error;
}

const REFUSALS: readonly (readonly [NatsError, RegExp, transient: boolean])[] = [
  [apiError(400, 10002, 'resource limits exceeded for account'), /account has used up .* L3AF_ACK .*max_file/, true],
  [apiError(503, 10023, 'insufficient resources'), /no space left for L3AF_ACK.*max_file_store/, true],
  [
    apiError(500, 10047, 'insufficient storage resources available'),
    /too little space for L3AF_ACK.*max_file_store/,
    true,
  ],
  [apiError(400, 10026, 'maximum consumers limit reached'), /L3AF_ACK has as many consumers.*max_consumers/, true],
  [apiError(400, 10027, 'maximum number of streams reached'), /as many streams.*L3AF_ACK.*max_streams/, true],
  [apiError(400, 10113, 'account requires …'), /max_bytes_required.*L3AF_ACK/, true],
  [apiError(503, 10077, 'maximum bytes exceeded'), /L3AF_ACK is full.*max_bytes/, true],
  [apiError(503, 10077, 'maximum messages exceeded'), /L3AF_ACK is full.*max_msgs,/, true],
  [apiError(503, 10077, 'the disk sulks'), /L3AF_ACK: the disk sulks; see error 10077/, true],
  [apiError(400, 10109, 'invalid operation on sealed stream'), /L3AF_ACK is sealed/, false],
  [apiError(400, 10054, 'message size exceeds maximum allowed'), /larger than the stream L3AF_ACK allows/, false],
  [apiError(503, 10076, 'JetStream not enabled'), /JetStream is not enabled on the NATS server; enable it/, true],
  [
    apiError(503, 10039, 'JetStream not enabled for account'),
    /JetStream is not enabled for this account; enable it/,
    true,
  ],
  [apiError(400, 19999, 'something new'), /L3AF_ACK: something new; see error 19999 of nats-server/, false],
  [apiError(503, 19998, 'something new'), /something new/, true],
  [new NatsError('MAX_PAYLOAD_EXCEEDED', ErrorCode.MaxPayloadExceeded), /max_payload, 4096 bytes\); raise/, false],
];

test('a refusal of JetStream tells what happened, the stream or the limit, what to do, and whether it may pass', () => {
  for (const [error, sentence, transient] of REFUSALS) {
    const refusal = refusalOf(error, { stream: 'L3AF_ACK', maxPayload: 4096 });

    assert.match(refusal?.message ?? '', sentence);
    assert.doesNotMatch(refusal?.message ?? '', /\{(stream|detail|payload)\}/);
    assert.deepEqual([refusal?.code, refusal?.transient], ['BROKER_REFUSED', transient], error.message);
    assert.equal(isTransient(error), transient, error.message);
  }
});

test('a refusal is not taken for an absent stream, although it may have the same code', () => {
  const full = apiError(503, 10077, 'maximum bytes exceeded');
  const absent = new NatsError('503', ErrorCode.NoResponders);

  assert.deepEqual([isNoResponders(full), isNoResponders(absent)], [false, true]);
  assert.match((inWords(absent, { stream: 'L3AF_ACK' }) as AgentError).message, /^Nobody answers for L3AF_ACK/);
  assert.match((inWords(absent) as AgentError).message, /^JetStream does not answer.*not enabled/);
});

test('an answer that did not come is no refusal', () => {
  for (const code of [ErrorCode.Timeout, ErrorCode.Disconnect, ErrorCode.NoResponders])
    assert.equal(refusalOf(new NatsError(code, code)), undefined);
  assert.equal(refusalOf(new Error('other')), undefined);
});

function nodeError(code: string, message = code): Error {
  return Object.assign(new Error(message), { code });
}

const NO_CONNECTION: readonly (readonly [unknown, RegExp])[] = [
  [new NatsError("'Authorization Violation'", ErrorCode.AuthorizationViolation), /refused the credentials; check/],
  [
    NatsError.errorForCode(ErrorCode.ConnectionRefused, nodeError('ECONNREFUSED')),
    /^The connection was refused; check/,
  ],
  [
    NatsError.errorForCode(ErrorCode.ConnectionRefused, new Error('undefined')),
    /without a word; set nats_tls_handshake_first/,
  ],
  [new NatsError('tls', ErrorCode.ServerOptionNotAvailable), /offers no TLS/],
  [nodeError('SELF_SIGNED_CERT_IN_CHAIN'), /not signed by an authority that is known here; name/],
  [NatsError.errorForCode(ErrorCode.Tls, nodeError('CERT_HAS_EXPIRED')), /has expired/],
  [
    nodeError('ERR_TLS_CERT_ALTNAME_INVALID', "IP: 10.0.0.1 is not in the cert's list"),
    /another name: IP: 10\.0\.0\.1 /,
  ],
  [
    Object.assign(nodeError('ERR_TLS_CERT_ALTNAME_INVALID', 'raw'), {
      host: '10.0.0.1',
      cert: { subjectaltname: 'DNS:nats.example, IP Address:10.0.0.2' },
    }),
    /another name: it is for nats\.example, 10\.0\.0\.2, not for 10\.0\.0\.1; connect to/,
  ],
  [
    Object.assign(nodeError('ERR_TLS_CERT_ALTNAME_INVALID', 'raw'), { host: '10.0.0.1', cert: {} }),
    /it is for nobody, not for 10\.0\.0\.1;/,
  ],
  [
    nodeError('ERR_SSL_WRONG_VERSION_NUMBER'),
    /does not begin with a TLS handshake; switch nats_tls_handshake_first \(--tls-handshake-first\) off/,
  ],
  [new NatsError('getaddrinfo ENOTFOUND nowhere', 'UNKNOWN'), /name of the NATS server cannot be resolved/],
  [new Error('strange'), /The connection failed: strange;/],
];

test('a connection that cannot be made tells why, and what to do', () => {
  for (const [error, sentence] of NO_CONNECTION) {
    const refusal = connectionRefusal(error);

    assert.match(refusal.message, sentence);
    assert.deepEqual([refusal.code, refusal.transient], ['BROKER_UNREACHABLE', true]);
    assert.ok(refusal instanceof AgentError);
  }
});
