import type { ErrorCode } from '../errors.js';
import type { Verb } from './command.js';

/** What the headers of a command contain besides its payload. */
export interface Envelope {
  /** The controller's counter for this host. */
  readonly gen: number | undefined;
  /** Generation of the command that this one builds on; 0 for none. */
  readonly prevGen: number | undefined;
  readonly expires: Date | undefined;
}

/** The host's position in its stream of commands. */
export interface AdmissionState {
  /** Generation of the last applied command that had one. */
  readonly generation: number | undefined;
  /** Why only a deploy is accepted now; undefined if every verb is accepted. */
  readonly awaitingDeploy: string | undefined;
}

export interface AdmissionRefusal {
  readonly status: 'expired' | 'superseded' | 'rejected';
  readonly code: ErrorCode;
  readonly message: string;
}

/**
 * Decides whether a command may run, given its age and what ran before it. A deploy states the whole desired state and
 * needs no predecessor. A delta (`add`, `delete`) may not run if its predecessor was not applied: the result would have
 * a gap.
 *
 * @param serverNow milliseconds since the epoch by the server's clock
 */
export function refusalOf(
  verb: Verb,
  envelope: Envelope,
  standing: AdmissionState,
  serverNow: number,
): AdmissionRefusal | undefined {
  const { gen, prevGen, expires } = envelope;
  const { generation, awaitingDeploy } = standing;
  if (expires !== undefined && expires.getTime() <= serverNow) {
    const message = `The command expired at ${expires.toISOString()}, before its turn came`;
    return { status: 'expired', code: 'EXPIRED', message };
  }
  if (gen !== undefined && generation !== undefined && gen <= generation) {
    const message = `Generation ${gen} is not newer than generation ${generation}, which is already applied`;
    return { status: 'superseded', code: 'STALE_GENERATION', message };
  }
  if (verb === 'deploy') return undefined;
  if (awaitingDeploy !== undefined) {
    const message = `${awaitingDeploy}; send a deploy with the whole desired state`;
    return { status: 'rejected', code: 'RESYNC_REQUIRED', message };
  }
  if (prevGen !== undefined && prevGen !== (generation ?? 0)) {
    const have = generation === undefined ? 'none is applied' : `generation ${generation} is applied`;
    const message = `The command builds on generation ${prevGen}, but ${have}; send a deploy with the whole desired state`;
    return { status: 'rejected', code: 'GENERATION_GAP', message };
  }
  return undefined;
}
