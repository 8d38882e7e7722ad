import { AgentError } from '../errors.js';
import type { RequestRefusal } from '../messages/refusal.js';

/** The error when an agent refuses a request. */
export class RequestRefusedError extends AgentError {
  override readonly name = 'RequestRefusedError';
  /** Everything that is wrong. */
  readonly refusal: RequestRefusal;

  constructor(verb: string, refusal: RequestRefusal) {
    super(refusal.code, `The agent refused ${verb}: ${refusal.message}`);
    this.refusal = refusal;
  }
}
