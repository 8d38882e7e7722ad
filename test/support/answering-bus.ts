import type { CommandBus } from '../../src/commands/command-bus.js';
import type { Acknowledgement } from '../../src/messages/ack.js';
import type { Journal } from '../../src/store/journal.js';

/** The bus of an agent without a broker: it has no commands by itself, and each answer is stored at once. */
export function answeringBus(
  journal: Journal,
  streamCreated: string,
  onAnswer: (answer: Acknowledgement) => void,
): CommandBus {
  return {
    position: async () => ({ created: streamCreated, lastSeq: 0, consumerFloor: 0 }),
    at: async () => undefined,
    backlog: async () => ({ deliveries: [], upTo: 0 }),
    bodies: async () => {},
    consume: async () => {},
    flushOutbox: async () => {
      for (const { id, body } of journal.pending()) {
        onAnswer(JSON.parse(body) as Acknowledgement);
        await journal.confirm(id);
      }
    },
    publishEvent: () => {},
    publishSnapshotSoon: () => {},
    deadLetter: async () => {},
  };
}
