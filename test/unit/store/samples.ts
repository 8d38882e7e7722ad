import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { DesiredState } from '../../../src/domain/desired.js';
import type { Program } from '../../../src/domain/program.js';
import { type CommandKey, type Finish, Journal, type JournalOptions } from '../../../src/store/journal.js';
import type { StoredAnswer } from '../../../src/store/records.js';

export const STREAM = '2025-01-01T00:00:00Z';

/** A directory for one test, removed when the test ends. */
export async function temporaryDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'l3af-store-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** An open journal in `dir`, closed when the test ends. */
export async function openJournal(
  t: TestContext,
  dir: string,
  options: Partial<JournalOptions> = {},
): Promise<Journal> {
  const journal = new Journal({ dir, ...options });
  await journal.open();
  t.after(() => journal.close());
  return journal;
}

/** The journal as the next process opens it. */
export async function reopen(t: TestContext, journal: Journal, dir: string): Promise<Journal> {
  await journal.close();
  return openJournal(t, dir);
}

export function commandKey(seq: number, changes: Partial<CommandKey> = {}): CommandKey {
  const storedAt = new Date(Date.UTC(2025, 0, 2) + seq * 1000).toISOString();
  return { id: `command-${seq}`, idIsSequence: false, seq, storedAt, streamCreated: STREAM, ...changes };
}

export function answerTo(key: CommandKey, body = `{"id":"${key.id}"}`): StoredAnswer {
  const id = `web1:${key.id}:${key.storedAt}`;
  return { id, subject: 'l3af.ack.web1', headers: { 'L3AF-Command-Id': key.id }, body };
}

export function finished(key: CommandKey, changes: Partial<Finish> = {}): Finish {
  return { key, verb: 'deploy', status: 'applied', outbox: answerTo(key), ...changes };
}

/** One chain with one program per name. */
export function desiring(...names: string[]): DesiredState {
  if (names.length === 0) return { chains: [], addresses: {} };
  const programs = names.map((name, index) => program(name, index + 1));
  return { chains: [{ hook: { iface: 'eth1', direction: 'xdpingress' }, programs }], addresses: { eth1: '10.0.0.1' } };
}

function program(name: string, seqId: number): Program {
  return {
    name,
    version: '1.0',
    seqId,
    artifact: `${name}.tar.gz`,
    repoUrl: '',
    objectFile: `${name}.bpf.o`,
    entryFunction: `xdp_${name}`,
    mapName: `xdp_${name}_next_prog_array`,
    enabled: true,
    carryMaps: ['connections'],
    mapArgs: [{ name: 'ports', args: [{ key: 80, value: '18446744073709551615' }] }],
    path: `0.bpf_programs.xdp_ingress.${seqId - 1}`,
    payload: { name, version: '1.0', seq_id: seqId, map_args: null, comment: 'naïve – “quoted”\n\u2028' },
  };
}
