import { AgentError } from '../errors.js';
import type { Refusal } from '../messages/refusal.js';

/** An agent's answer that what it was asked cannot be done. */
export class RequestRefusedError extends AgentError {
  override readonly name = 'RequestRefusedError';
  /** With everything that is wrong. */
  readonly refusal: Refusal;

  constructor(verb: string, refusal: Refusal) {
    super(refusal.code, `The agent refused ${verb}: ${refusal.message}`);
    this.refusal = refusal;
  }
}
