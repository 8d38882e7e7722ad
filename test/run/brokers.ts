/*
 * Which brokers the tests of the bus run against, beside the nats-server of the machine.
 */

/** One more run of some tests, against other brokers. */
export interface Pass {
  /** For people, and the value of L3AF_TEST_BROKER: support/nats has the meaning. */
  readonly broker: 'current' | 'cluster';
  /** Paths below test/, without their ending. */
  readonly tests: readonly string[];
}

/** The tests of the bus begin so. */
const BUS = ['integration/bus/', 'integration/client/', 'e2e/bus/'];
/** Their brokers do not depend on the choice: they start their own, or none. */
const OWN_BROKERS = [
  'integration/bus/cluster',
  'integration/bus/refusals',
  'integration/bus/embedded',
  'e2e/bus/cluster',
  'e2e/bus/refusals',
  'e2e/bus/embedded',
];
/** What a cluster is asked every time, since servers differ there the most; the rest only with `--full`. */
const ALWAYS = ['integration/bus/commands'];

/**
 * The further runs for a selection of tests: everything of the bus against a current server and a cluster of three with
 * `isFull`, else a part of it against the cluster.
 */
export function furtherPasses(tests: readonly string[], isFull: boolean): readonly Pass[] {
  const bus = tests.filter((test) => BUS.some((folder) => test.startsWith(folder)));
  const dependent = bus.filter((test) => !OWN_BROKERS.includes(test));
  const passes: readonly Pass[] = isFull
    ? [
        // An agent's own broker is a current one there, too.
        { broker: 'current', tests: bus.filter((test) => !/\/(cluster|refusals)$/.test(test)) },
        { broker: 'cluster', tests: dependent },
      ]
    : [{ broker: 'cluster', tests: dependent.filter((test) => ALWAYS.includes(test)) }];
  return passes.filter((pass) => pass.tests.length > 0);
}
