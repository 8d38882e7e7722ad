import { AgentError } from '../errors.js';

/** Every subject that concerns one host, and those that span all hosts. Subjects are written only in this file. */
export interface Subjects {
  /** `l3af.cmd.<host>.<verb>` */
  command(verb: string): string;
  /** `l3af.cmd.<host>.*` */
  readonly commandFilter: string;
  /** `l3af.cmd.*.*` */
  readonly commandsAll: string;
  /** `l3af.ack.<host>` */
  readonly ack: string;
  /** `l3af.ack.*` */
  readonly acksAll: string;
  /** `l3af.evt.<host>.<kind>` */
  event(kind: string): string;
  /** `l3af.evt.*.*` */
  readonly eventsAll: string;
  /** `l3af.metrics.<host>` */
  readonly metrics: string;
  /** `l3af.req.<host>.<verb>` */
  request(verb: string): string;
  /** `l3af.req.all.<verb>`, answered by every host */
  requestAll(verb: string): string;
  /** `l3af.dlq.<host>`, for copies of quarantined commands */
  readonly deadLetter: string;
  /** `l3af.dlq.*` */
  readonly deadLettersAll: string;
}

/** Names of the streams and buckets. `state` and `hosts` are key-value buckets, `packages` is an object store. */
export const STREAMS = {
  commands: 'L3AF_CMD',
  acks: 'L3AF_ACK',
  events: 'L3AF_EVT',
  state: 'L3AF_STATE',
  hosts: 'L3AF_HOSTS',
  packages: 'L3AF_PACKAGES',
} as const;

/** Headers of commands and acknowledgements. The id of a command is in NATS's own `Nats-Msg-Id`. */
export const HEADERS = {
  gen: 'L3AF-Gen',
  prevGen: 'L3AF-Prev-Gen',
  expires: 'L3AF-Expires',
  commandId: 'L3AF-Command-Id',
} as const;

/** The token in place of the host in `l3af.req.all.<verb>`. No host may have this name. */
const EVERY_HOST = 'all';

const PREFIX = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const HOST_TOKEN = /^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$/;
/** RFC 1123, section 2.1: labels of letters, digits and inner hyphens, of at most 63 characters. */
const HOST_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const HOST_NAME_MAX = 253;

/**
 * @param prefix first token or tokens of every subject, usually `l3af`
 * @param token the host's token in a subject, as {@link hostToken} makes it from its name
 * @throws AgentError CONFIG_INVALID when one of them has wildcards, blanks or empty tokens
 */
export function subjectsFor(prefix: string, token: string): Subjects {
  if (!PREFIX.test(prefix)) {
    throw new AgentError(
      'CONFIG_INVALID',
      `Expected a subject prefix of letters, digits, "_" and "-", in tokens joined by dots; got ${JSON.stringify(prefix)}`,
    );
  }
  if (!HOST_TOKEN.test(token) || token === EVERY_HOST) {
    throw new AgentError(
      'CONFIG_INVALID',
      `Expected a host token of lower-case letters, digits, "-" and "_"; got ${JSON.stringify(token)}`,
    );
  }
  return {
    command: (verb) => `${prefix}.cmd.${token}.${verb}`,
    commandFilter: `${prefix}.cmd.${token}.*`,
    commandsAll: `${prefix}.cmd.*.*`,
    ack: `${prefix}.ack.${token}`,
    acksAll: `${prefix}.ack.*`,
    event: (kind) => `${prefix}.evt.${token}.${kind}`,
    eventsAll: `${prefix}.evt.*.*`,
    metrics: `${prefix}.metrics.${token}`,
    request: (verb) => `${prefix}.req.${token}.${verb}`,
    requestAll: (verb) => `${prefix}.req.${EVERY_HOST}.${verb}`,
    deadLetter: `${prefix}.dlq.${token}`,
    deadLettersAll: `${prefix}.dlq.*`,
  };
}

/**
 * The host's token in subjects, consumer names and keys: its name with an underscore for each dot. Underscores are not
 * legal in RFC 1123 names, so no two names share a token. With dots, `web` would match the subjects of `web.dc1`.
 *
 * @throws AgentError CONFIG_INVALID for a name that is not an RFC 1123 name in lower case, or is `all`
 */
export function hostToken(name: string): string {
  const legal = name.length <= HOST_NAME_MAX && name.split('.').every((label) => HOST_LABEL.test(label));
  if (!legal || name === EVERY_HOST) {
    throw new AgentError(
      'CONFIG_INVALID',
      `Expected a host name of lower-case letters, digits, "-" and "." (RFC 1123) other than "${EVERY_HOST}", ` +
        `got ${JSON.stringify(name)}; configure an explicit host id`,
    );
  }
  return name.replaceAll('.', '_');
}
