import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AgentError } from '../../../src/errors.js';
import { hostToken, subjectsFor } from '../../../src/messages/subjects.js';

const isConfigInvalid = (error: unknown) => error instanceof AgentError && error.code === 'CONFIG_INVALID';

describe('hostToken', () => {
  it('replaces every dot, so that one host is one token', () => {
    assert.equal(hostToken('web1.dc-2.example'), 'web1_dc-2_example');
  });

  for (const [name, why] of [
    ['', 'empty'],
    ['Web1', 'capitals, which another tool may have lowered'],
    ['web_1', 'an underscore, which would not be reversible'],
    ['web..dc1', 'an empty label'],
    ['-web', 'a label that starts with a hyphen'],
    ['a'.repeat(64), 'a label of 64 characters'],
    [Array(4).fill('a'.repeat(62)).join('.').concat('.bb'), 'a name of 254 characters'],
    ['web.*', 'a wildcard'],
    ['all', 'the token that stands for every host'],
  ] as const) {
    it(`refuses a name with ${why}`, () => {
      assert.throws(() => hostToken(name), isConfigInvalid);
    });
  }

  it('says what to do about a refused name', () => {
    assert.throws(() => hostToken('Web_1'), /explicit host id/);
  });
});

describe('subjectsFor', () => {
  it('puts every subject under the prefix, with the host in its place', () => {
    const subjects = subjectsFor('l3af', hostToken('web1.dc1'));

    assert.equal(subjects.command('deploy'), 'l3af.cmd.web1_dc1.deploy');
    assert.equal(subjects.commandFilter, 'l3af.cmd.web1_dc1.*');
    assert.equal(subjects.commandsAll, 'l3af.cmd.*.*');
    assert.equal(subjects.ack, 'l3af.ack.web1_dc1');
    assert.equal(subjects.acksAll, 'l3af.ack.*');
    assert.equal(subjects.event('adopted'), 'l3af.evt.web1_dc1.adopted');
    assert.equal(subjects.eventsAll, 'l3af.evt.*.*');
    assert.equal(subjects.metrics, 'l3af.metrics.web1_dc1');
    assert.equal(subjects.request('status'), 'l3af.req.web1_dc1.status');
    assert.equal(subjects.requestAll('status'), 'l3af.req.all.status');
    assert.equal(subjects.deadLetter, 'l3af.dlq.web1_dc1');
    assert.equal(subjects.deadLettersAll, 'l3af.dlq.*');
  });

  it('accepts a prefix of several tokens', () => {
    assert.equal(subjectsFor('corp.l3af', 'web1').ack, 'corp.l3af.ack.web1');
  });

  for (const [prefix, token] of [
    ['l3af.>', 'web1'],
    ['', 'web1'],
    ['l3af.', 'web1'],
    ['l3 af', 'web1'],
    ['l3af', '*'],
    ['l3af', 'web1.dc1'],
    ['l3af', 'all'],
    ['l3af', ''],
  ] as const) {
    it(`refuses the prefix "${prefix}" with the token "${token}"`, () => {
      assert.throws(() => subjectsFor(prefix, token), isConfigInvalid);
    });
  }
});
