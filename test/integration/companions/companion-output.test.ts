import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { LineSplitter } from '../../../src/companions/lines.js';
import { CompanionBed, launchOf } from '../../support/companions.js';
import { until } from '../../support/until.js';

test('both streams are logged completely, line by line', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', '#!/bin/sh\nseq 20000\necho warning >&2\nprintf "no end"\nexec sleep 1000\n');
  await companions.start(launchOf(), [], 0);
  await bed.hears(/^20000$/);
  await companions.stop(launchOf());
  const numbers = Array.from({ length: 20_000 }, (_, index) => String(index + 1));
  assert.deepEqual(bed.said('stdout'), [...numbers, 'no end']);
  assert.deepEqual(bed.said('stderr'), ['warning']);
});

test('a companion that floods its output fills neither the disk nor the log', async (t) => {
  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script(
    'run',
    '#!/bin/sh\nyes "$(seq 20 | tr "\\n" " ")" | head -c 100000000\necho\necho done\nexec sleep 1000\n',
  );
  await companions.start(launchOf(), [], 0);
  await bed.hears(/^done$/);
  const dropped = bed.logged.filter(({ message }) => message === 'companion output dropped');
  assert.ok(dropped.reduce((sum, { bytes }) => sum + Number(bytes), 0) > 50_000_000);
  const [id] = await readdir(join(bed.dir, 'state'));
  const onDisk = () => statSync(join(bed.dir, 'state', id!, 'stdout')).blocks * 512;
  await until('the space is given back', () => onDisk() < 4_000_000);
});

test('output that is too long, written while no agent was running, is dropped, and its disk space freed', async (t) => {
  const bed = await CompanionBed.create(t);
  const before = await bed.open();
  const wait = 'while [ ! -e go ]; do sleep 0.05; done';
  await bed.script(
    'run',
    `#!/bin/sh\n${wait}\nyes "much to say" | head -c 50000000\ntouch written\nwhile [ ! -e end ]; do sleep 0.05; done\necho\necho done\nexec sleep 1000\n`,
  );
  await before.start(launchOf(), [], 0);
  await before.close();
  await writeFile(bed.path('go'), '');
  await until('it has written', () => existsSync(bed.path('written')));
  const [id] = await readdir(join(bed.dir, 'state'));
  const onDisk = () => statSync(join(bed.dir, 'state', id!, 'stdout')).blocks * 512;
  assert.ok(onDisk() >= 50_000_000);

  await bed.open();
  await writeFile(bed.path('end'), '');

  await bed.hears(/^done$/);
  await until('the space is given back', () => onDisk() < 4_000_000);
});

test('lines that are too long are cut, and lines that come in pieces are joined', () => {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line));
  const euro = Buffer.from('€\r\n');
  splitter.push(euro.subarray(0, 1));
  splitter.push(euro.subarray(1));
  splitter.push(Buffer.from('x'.repeat(5_000)));
  splitter.push(Buffer.from(`${'y'.repeat(5_000)}\nshort\n\nrest`));
  splitter.finish();
  assert.deepEqual(
    lines.map((line) => (line.length > 10 ? `${line.length} ${line.at(-1)}` : line)),
    ['€', '4097 …', 'short', '', 'rest'],
  );
});
