import { table } from '../../../src/ctl/table.js';
import { readExchanges } from '../exchanges.js';
import type { Narrator } from '../narrator.js';
import type { Stage } from '../stage.js';

const COLUMNS = [
  { title: 'COMMAND' },
  { title: 'PUBLISHED' },
  { title: 'ANSWERED' },
  { title: 'MS', align: 'right' },
  { title: 'STATUS' },
  { title: 'PROGRAMS' },
] as const;

export async function lookBack(stage: Stage, tell: Narrator, commands: number): Promise<void> {
  tell.act('The acknowledgements in the stream L3AF_ACK');
  const exchanges = await readExchanges(stage.agent.natsUrl);
  const rows = exchanges.map(({ acknowledgement, publishedAt, answeredAt, tookMs }) => {
    const { verb, status, programs, code } = acknowledgement;
    return [verb, clock(publishedAt), clock(answeredAt), String(tookMs), status, code ?? resultsOf(programs)];
  });
  tell.lines([...table(COLUMNS, rows, tell.style), '']);
  const ids = new Set(exchanges.map(({ acknowledgement }) => acknowledgement.id));
  tell.claim(
    exchanges.length === commands && ids.size === commands,
    `${commands} commands were sent, and each was answered exactly once`,
    exchanges.map(({ acknowledgement }) => acknowledgement.id),
  );
}

/** `1 updated, 4 unchanged` */
function resultsOf(programs: readonly { readonly result: string }[]): string {
  const counts = new Map<string, number>();
  for (const { result } of programs) counts.set(result, (counts.get(result) ?? 0) + 1);
  return [...counts].map(([result, count]) => `${count} ${result}`).join(', ');
}

/** `12:34:56.789` */
function clock(time: Date): string {
  return time.toISOString().slice(11, 23);
}
