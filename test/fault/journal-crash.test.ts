import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Journal } from '../../src/store/journal.js';
import { encodeLine } from '../../src/store/line.js';
import { type Death, DyingDisk, LOSSES, type Loss, type Operation } from '../unit/store/dying-disk.js';
import { answerTo, commandKey, desiring, finished, STREAM } from '../unit/store/samples.js';

const DIR = '/state';
const MAX_RECORDS = 3;

interface Step {
  readonly call: (journal: Journal) => Promise<unknown>;
  /** Whether the step is a confirmation. A crash may lose confirmations, back to the last step that is not one. */
  readonly mayBeLost?: boolean;
}

const confirm = (seq: number): Step => ({
  call: (journal) => journal.confirm(answerTo(commandKey(seq)).id),
  mayBeLost: true,
});

/** What an agent records for one command, from beginning to end. */
function command(seq: number, ...names: string[]): Step[] {
  const key = commandKey(seq);
  return [
    { call: (journal) => journal.begin(key, 'deploy') },
    { call: (journal) => journal.finish(finished(key, { desired: desiring(...names), generation: seq })) },
    confirm(seq),
  ];
}

const script: readonly Step[] = [
  ...command(1, 'ratelimiting'),
  ...command(2, 'ratelimiting', 'connlimit'),
  { call: (journal) => journal.begin(commandKey(3), 'add') },
  { call: (journal) => journal.begin(commandKey(3), 'add') },
  { call: (journal) => journal.finish(finished(commandKey(3), { status: 'failed' })) },
  {
    call: (journal) => journal.finishMany([4, 5, 6].map((seq) => finished(commandKey(seq), { status: 'superseded' }))),
  },
  confirm(3),
  confirm(4),
  confirm(5),
  { call: (journal) => journal.awaitDeploy('The command stream was put back to an earlier state') },
  { call: (journal) => journal.moveStream({ created: STREAM, lastSeq: 2 }) },
  confirm(6),
  { call: (journal) => journal.finish(finished(commandKey(7), { desired: desiring(), clearsAwait: true })) },
  confirm(7),
  { call: (journal) => journal.setDesired(desiring('ipfix', 'mirror', 'ratelimiting')) },
  ...command(8, 'mirror'),
  ...command(9),
  ...command(10, 'ipfix'),
  { call: (journal) => journal.awaitDeploy('Generation 11 is missing') },
  { call: (journal) => journal.begin(commandKey(11), 'add') },
];

/** The whole state of a journal. */
function viewOf(journal: Journal) {
  const { desired, generation, stream, awaitingDeploy } = journal;
  const commands = Array.from({ length: 11 }, (_, n) => journal.find(commandKey(n + 1)));
  return { desired, generation, stream, awaitingDeploy, pending: journal.pending(), commands };
}
type View = ReturnType<typeof viewOf>;

function journalOn(disk: DyingDisk): Journal {
  // So small that the script compacts the file several times.
  return new Journal({ dir: DIR, files: disk, compactAbove: 1500, maxRecords: MAX_RECORDS, confirmDelayMs: 60_000 });
}

/** A journal, not open yet, on the remains of a disk, with the real file operations. */
async function withLeftovers(
  disk: DyingDisk,
  loss: Loss,
  look: (journal: Journal, dir: string) => Promise<void>,
): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'l3af-crash-'));
  const journal = new Journal({ dir, maxRecords: MAX_RECORDS });
  try {
    await disk.putLeftovers(dir, loss);
    await look(journal, dir);
  } finally {
    await journal.close();
    await rm(dir, { recursive: true });
  }
}

/** How many steps were complete when the machine stopped, and whether the journal was open. */
async function runUntilDeath(disk: DyingDisk): Promise<{ steps: number; instanceId: string | undefined }> {
  const journal = journalOn(disk);
  let steps = 0;
  let instanceId: string | undefined;
  try {
    await journal.open();
    instanceId = journal.instanceId;
    for (const { call } of script) {
      await call(journal);
      // A compaction begins now, if there is one, and goes on beside the next steps.
      await nextTurn();
      steps += 1;
    }
  } catch (error) {
    assert.match(String(error), /the machine has stopped/);
  }
  return { steps, instanceId };
}

describe('a journal on a machine that stops', () => {
  /** The state of the journal before the first step and after each, without a crash. */
  const views: View[] = [];
  let operations: readonly Operation[] = [];

  before(async () => {
    const disk = new DyingDisk();
    const journal = journalOn(disk);
    await journal.open();
    views.push(viewOf(journal));
    for (const { call } of script) {
      await call(journal);
      await nextTurn();
      views.push(viewOf(journal));
    }
    operations = [...disk.operations];
  });

  /**
   * The states that are valid after a number of complete steps: from the last that must be on disk to the one in
   * progress.
   */
  function allowed(steps: number): View[] {
    let oldest = steps;
    while (oldest > 0 && script[oldest - 1]?.mayBeLost) oldest -= 1;
    return views.slice(oldest, steps + 2);
  }

  async function assertSurvives(death: Death, losses: readonly Loss[] = LOSSES): Promise<void> {
    const disk = new DyingDisk(death);
    const { steps, instanceId } = await runUntilDeath(disk);
    for (const loss of losses) {
      const what = `${JSON.stringify(death)} ${operations[death.at]?.name}, lost: ${loss}, after step ${steps}`;
      await withLeftovers(disk, loss, async (journal, dir) => {
        const report = await journal.open();

        assert.equal(report.damaged, undefined, what);
        assert.deepEqual((await readdir(dir)).toSorted(), ['instance-id', 'journal'], what);
        if (instanceId !== undefined) assert.equal(journal.instanceId, instanceId, what);
        const view = viewOf(journal);
        assert.ok(
          allowed(steps).some((expected) => isEqual(view, expected)),
          what,
        );
        await journal.setDesired(desiring('connlimit'));
        await journal.close();
        assert.deepEqual(await journal.open(), { fresh: false, truncatedTail: false }, what);
        assert.deepEqual(viewOf(journal), { ...view, desired: desiring('connlimit') }, what);
      });
    }
  }

  it('is tested with a script that compacts the file several times, also while lines are appended', () => {
    assert.ok(script.length >= 30, `${script.length} steps`);
    const renames = [...operations.keys()].filter((at) => operations[at]?.name === 'rename');
    assert.ok(renames.length >= 3, `${renames.length} compactions`);
    const writesBefore = renames.map((at, index) => {
      const since = operations.slice(renames[index - 1] ?? 0, at);
      const begun = since.findLastIndex(({ name, path }) => name === 'open' && path.endsWith('.tmp'));
      return since.slice(begun).filter(({ name, path }) => name === 'write' && path.endsWith('.tmp')).length;
    });
    assert.ok(Math.max(...writesBefore) >= 2, `writes to the new files: ${writesBefore.join()}`);
  });

  for (const when of ['before', 'after'] as const) {
    it(`holds the old state or the new after a stop ${when} any file operation`, async () => {
      for (let at = 0; at < operations.length; at += 1) await assertSurvives({ at, when });
    });
  }

  it('holds the old state or the new after a stop during any write', async () => {
    for (const [at, { name, length }] of operations.entries()) {
      if (name !== 'write') continue;
      for (const bytes of new Set([1, 8, 9, Math.floor(length / 2), length - 1])) {
        for (const zeros of [false, true]) await assertSurvives({ at, when: 'within', bytes, zeros }, ['nothing']);
      }
    }
  });

  it('holds the old state or the new after a stop at any byte of a write', async () => {
    const writes = [...operations.entries()].filter(([, { name }]) => name === 'write');
    const [at, { length }] = writes.at(-1)!;
    for (let bytes = 0; bytes <= length; bytes += 1) await assertSurvives({ at, when: 'within', bytes }, ['nothing']);
  });

  it('keeps what the next process writes, even if the power fails after a process was killed at any operation', async () => {
    for (let at = 0; at < operations.length; at += 1) {
      const disk = new DyingDisk({ at, when: 'after' });
      await runUntilDeath(disk);
      disk.restart();
      const next = journalOn(disk);
      await next.open();
      await next.setDesired(desiring('written', 'after', 'restart'));

      await withLeftovers(disk, 'names and content', async (journal) => {
        await journal.open();
        assert.deepEqual(journal.desired, desiring('written', 'after', 'restart'), `${at} ${operations[at]?.name}`);
      });
    }
  });

  it('always has a file while a damaged one is set aside', async () => {
    const damaged = async (disk: DyingDisk) => {
      await journalOn(disk).open();
      const file = await disk.open(join(DIR, 'journal'), 'update');
      await file.write(encodeLine(['not a head']), 0);
      await file.sync();
      return disk.operations.length;
    };
    const whole = new DyingDisk();
    const first = await damaged(whole);
    await journalOn(whole).open();

    for (let at = first; at < whole.operations.length; at += 1) {
      const disk = new DyingDisk({ at, when: 'before' });
      await damaged(disk);
      await journalOn(disk)
        .open()
        .catch(() => {});
      for (const loss of LOSSES) {
        await withLeftovers(disk, loss, async (journal) => {
          assert.equal((await journal.open()).fresh, false, `${at}: ${loss}`);
        });
      }
    }
  });
});

function isEqual(a: View, b: View): boolean {
  try {
    assert.deepEqual(a, b);
    return true;
  } catch {
    return false;
  }
}
