import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AgentError } from '../../../src/errors.js';
import { createLogger, type LoggerOptions } from '../../../src/telemetry/log.js';

/** A logger and the lines that it has written, parsed. */
function loggerAt(level: LoggerOptions['level']) {
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  return { log: createLogger({ level, host: 'web1', destination }), lines };
}

describe('the log', () => {
  it('writes one JSON object per line: ISO time, level as a word, agent and host, fields, constant message', () => {
    const { log, lines } = loggerAt('info');

    log.info({ verb: 'deploy' }, 'command applied');

    const [{ time, ...line } = {}] = lines;
    assert.equal(new Date(String(time)).toISOString(), time);
    assert.deepEqual(line, { level: 'info', name: 'l3af-agent', host: 'web1', verb: 'deploy', msg: 'command applied' });
  });

  it('omits messages below its level', () => {
    const { log, lines } = loggerAt('warn');

    log.info('one');
    log.warn('two');
    log.error('three');

    assert.deepEqual(
      lines.map((line) => line.msg),
      ['two', 'three'],
    );
  });

  it('writes an error with its code, its place, its detail, and every cause', () => {
    const { log, lines } = loggerAt('info');
    const refused = Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' });
    const both = new AggregateError([refused, 'no route'], 'every address failed');
    const err = new AgentError('ARTIFACT_UNREACHABLE', 'The repository does not answer.', {
      path: '0.artifact',
      detail: 'tried twice',
      cause: both,
    });

    log.error({ err }, 'command failed');

    assert.deepEqual(withoutStacks(lines[0]?.err), {
      type: 'AgentError',
      message: 'The repository does not answer.',
      code: 'ARTIFACT_UNREACHABLE',
      path: '0.artifact',
      detail: 'tried twice',
      cause: {
        type: 'AggregateError',
        message: 'every address failed',
        errors: [
          { type: 'Error', message: 'connection refused', code: 'ECONNREFUSED' },
          { type: 'string', message: 'no route' },
        ],
      },
    });
    assert.match(JSON.stringify(lines[0]), /log\.test/);
  });

  it('cuts a chain of causes that is a cycle', () => {
    const { log, lines } = loggerAt('info');
    const err = new Error('round and round');
    err.cause = err;

    log.error({ err }, 'command failed');

    assert.equal(lines.length, 1);
    assert.equal(JSON.stringify(lines[0]).match(/"cause"/g)?.length, 8);
  });
});

function withoutStacks(error: unknown): unknown {
  return JSON.parse(JSON.stringify(error, (key, value: unknown) => (key === 'stack' ? undefined : value)));
}
