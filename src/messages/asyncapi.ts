import * as z from 'zod';
import { VERBS, type Verb } from '../domain/command.js';
import { REQUEST_VERBS, REQUESTS } from './requests.js';
import { HEADERS, STREAMS, type Subjects, subjectsFor } from './subjects.js';

type Json = Readonly<Record<string, unknown>>;

/** AsyncAPI's own schema language is a superset of draft 7. */
export function jsonSchema(schema: z.ZodType): Json {
  return z.toJSONSchema(schema, { target: 'draft-7', io: 'input' });
}

const HOST = 'host';
const KIND = 'kind';

const headers = {
  type: 'object',
  properties: {
    'Nats-Msg-Id': {
      type: 'string',
      description: 'The id of the command; without it the id is <stream>:<sequence>. A repeated id is not run twice.',
    },
    [HEADERS.gen]: { type: 'string', description: "The controller's counter per host, from 1" },
    [HEADERS.prevGen]: {
      type: 'string',
      description: 'The generation that this one builds on. The command is rejected if that generation was not applied',
    },
    [HEADERS.expires]: {
      type: 'string',
      format: 'date-time',
      description: 'The command is not run when its turn comes after this time, by the clock of the server',
    },
  },
} as const satisfies Json;

/** Of every micro service (ADR-32 of NATS). */
const refusalHeaders = { 'Nats-Service-Error-Code': { type: 'string' }, 'Nats-Service-Error': { type: 'string' } };

const hostParameter = { host: { description: "The host's name with each dot as an underscore" } };
const kindParameter = { kind: { description: 'What happened' } };

/**
 * The AsyncAPI 3 document of all messages on the bus, from the agent's point of view: it receives commands and
 * requests, and sends the rest.
 */
export function asyncApi(version: string): Json {
  const subjects = subjectsFor('l3af', HOST);
  const [commandChannels, commandOperations] = commandParts(subjects);
  const [requestChannels, requestOperations] = requestParts(subjects);
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'L3AF fleet agent',
      version,
      description:
        'Commands, acknowledgements, events and requests over NATS. The prefix "l3af" of every subject is configurable.',
      license: { name: 'Apache-2.0' },
    },
    defaultContentType: 'application/json',
    channels: {
      ...commandChannels,
      acknowledgements: {
        address: address(subjects.ack),
        description: `Kept in the stream ${STREAMS.acks}`,
        parameters: hostParameter,
        messages: { acknowledgement: { $ref: '#/components/messages/acknowledgement' } },
      },
      events: {
        address: address(subjects.event(KIND), KIND),
        description: `Kept for a short time in the stream ${STREAMS.events}`,
        parameters: { ...hostParameter, ...kindParameter },
        messages: { event: { $ref: '#/components/messages/event' } },
      },
      snapshot: {
        address: `$KV.${STREAMS.state}.{${HOST}}`,
        description: `The key-value bucket ${STREAMS.state}`,
        parameters: hostParameter,
        messages: { snapshot: { $ref: '#/components/messages/snapshot' } },
      },
      hosts: {
        address: `$KV.${STREAMS.hosts}.{${HOST}}`,
        description: `The key-value bucket ${STREAMS.hosts}. An entry expires when its heartbeats end`,
        parameters: hostParameter,
        messages: { host: { $ref: '#/components/messages/host' } },
      },
      ...requestChannels,
    },
    operations: {
      ...commandOperations,
      sendAcknowledgement: operation('send', 'acknowledgements', 'Answer a command exactly once'),
      sendEvent: operation('send', 'events', 'Report what happened on the host without a command'),
      sendSnapshot: operation('send', 'snapshot', 'Report what runs, after each command and each repair'),
      sendHost: operation('send', 'hosts', 'Register the host, and show that its agent is alive'),
      ...requestOperations,
    },
    components: { messages: { ...messages(), ...requestMessages() } },
  };
}

function commandParts(subjects: Subjects): [Json, Json] {
  const verbs = {
    deploy: 'Make this the whole desired state of the host',
    add: 'Add these programs to the desired state',
    delete: 'Remove these programs from the desired state',
  } satisfies Record<Verb, string>;
  const channels = Object.keys(verbs).map((verb) => [
    verb,
    {
      address: address(subjects.command(verb)),
      description: `Kept for replay in the stream ${STREAMS.commands}`,
      parameters: hostParameter,
      messages: { [verb]: { $ref: `#/components/messages/${verb}` } },
    },
  ]);
  const operations = Object.entries(verbs).map(([verb, summary]) => [
    `receive${capital(verb)}`,
    operation('receive', verb, summary),
  ]);
  return [Object.fromEntries(channels), Object.fromEntries(operations)];
}

function requestParts(subjects: Subjects): [Json, Json] {
  const channels = REQUEST_VERBS.flatMap((verb) => [
    [
      `${verb}Request`,
      {
        address: address(subjects.request(verb)),
        description: `Also ${subjects.requestAll(verb)}, which every host answers`,
        parameters: hostParameter,
        messages: { [`${verb}Request`]: { $ref: `#/components/messages/${verb}Request` } },
      },
    ],
    [
      `${verb}Reply`,
      {
        address: null,
        messages: {
          [`${verb}Reply`]: { $ref: `#/components/messages/${verb}Reply` },
          refusal: { $ref: '#/components/messages/refusal' },
        },
      },
    ],
  ]);
  const operations = REQUEST_VERBS.map((verb) => [
    `answer${capital(verb)}`,
    {
      ...operation('receive', `${verb}Request`, REQUESTS[verb].reply.description ?? verb),
      reply: {
        address: { location: '$message.header#/reply-to', description: "The request's reply subject" },
        channel: { $ref: `#/channels/${verb}Reply` },
      },
    },
  ]);
  return [Object.fromEntries(channels), Object.fromEntries(operations)];
}

function messages(): Json {
  const command = (verb: string) => ({ headers, payload: { $ref: `./${verb}.json` } });
  const plain = (name: string) => ({ payload: { $ref: `./${name}.json` } });
  return {
    ...Object.fromEntries(VERBS.map((verb) => [verb, command(verb)])),
    acknowledgement: {
      headers: {
        type: 'object',
        properties: { [HEADERS.commandId]: { type: 'string' } },
        required: [HEADERS.commandId],
      },
      ...plain('acknowledgement'),
    },
    event: plain('event'),
    snapshot: plain('snapshot'),
    host: plain('host'),
    refusal: {
      headers: { type: 'object', properties: refusalHeaders, required: Object.keys(refusalHeaders) },
      ...plain('refusal'),
    },
  };
}

function requestMessages(): Json {
  return Object.fromEntries(
    REQUEST_VERBS.flatMap((verb) => [
      [`${verb}Request`, { payload: jsonSchema(REQUESTS[verb].request) }],
      [`${verb}Reply`, { payload: verb === 'state' ? { $ref: './snapshot.json' } : jsonSchema(REQUESTS[verb].reply) }],
    ]),
  );
}

function operation(action: 'send' | 'receive', channel: string, summary: string): Json {
  return { action, channel: { $ref: `#/channels/${channel}` }, summary };
}

/** A subject with its place-holder tokens as parameters: `l3af.cmd.host.deploy` becomes `l3af.cmd.{host}.deploy`. */
function address(subject: string, ...parameters: readonly string[]): string {
  return subject
    .split('.')
    .map((token) => (token === HOST || parameters.includes(token) ? `{${token}}` : token))
    .join('.');
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
