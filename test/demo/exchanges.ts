import { connect } from 'nats';
import { accessOptions } from '../../src/bus/access.js';
import { type Acknowledgement, parseAcknowledgement } from '../../src/messages/ack.js';
import { STREAMS } from '../../src/messages/subjects.js';

/** A command and its answer, with the times at which the broker stored them. */
export interface Exchange {
  readonly acknowledgement: Acknowledgement;
  readonly publishedAt: Date;
  readonly answeredAt: Date;
  /** Time between both, in milliseconds. */
  readonly tookMs: number;
}

/** All commands and their answers, read from the two streams. */
export async function readExchanges(natsUrl: string): Promise<Exchange[]> {
  const nc = await connect(accessOptions({ servers: [natsUrl] }));
  try {
    const jsm = await nc.jetstreamManager();
    const { state } = await jsm.streams.info(STREAMS.acks);
    const exchanges: Exchange[] = [];
    for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
      const answer = await jsm.streams.getMessage(STREAMS.acks, { seq });
      const acknowledgement = parseAcknowledgement(answer.data);
      const command = await jsm.streams.getMessage(STREAMS.commands, { seq: acknowledgement.seq });
      const [publishedAt, answeredAt] = [command.time, answer.time];
      exchanges.push({
        acknowledgement,
        publishedAt,
        answeredAt,
        tookMs: answeredAt.getTime() - publishedAt.getTime(),
      });
    }
    return exchanges;
  } finally {
    await nc.close();
  }
}
