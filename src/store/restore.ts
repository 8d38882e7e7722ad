import { messageOf } from '../errors.js';
import type { Lines } from './line.js';
import { parseRecords, parseSnapshot } from './schema.js';
import { JournalState, type Limits } from './state.js';

/** @throws Error that says what is wrong with the file */
export function restore({ values, fault }: Lines, limits: Limits): JournalState {
  if (fault !== undefined) throw new Error(fault);
  const [head, ...changes] = values;
  const state = JournalState.from(parseSnapshot(head), limits);
  changes.forEach((value, index) => {
    try {
      for (const record of parseRecords(value)) state.apply(record);
    } catch (error) {
      throw new Error(`line ${index + 2}: ${messageOf(error)}`, { cause: error });
    }
  });
  return state;
}
