import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderChains } from '../../../src/ctl/show.js';
import type { Style } from '../../../src/ctl/style.js';
import type { ReplyOf } from '../../../src/messages/requests.js';

type Reply = ReplyOf<'chains'>;

const plain: Style = (_format, text) => text;
/** Shows styled text as `<red:text>`. */
const tagged: Style = (format, text) => `<${[format].flat().join('+')}:${text}>`;

const drawn = (reply: Reply, style = plain) => renderChains([reply], style, 100);

describe('the probes of a host', () => {
  type Probes = NonNullable<Reply['probes']>;
  const load = (name: string, parts: Probes['standing'][number]['functions']) => ({
    name,
    version: '1.0',
    functions: parts,
  });
  const probes: Probes = {
    standing: [
      load('calls', [
        { name: 'on_call', prog_id: 12, link_id: 7 },
        { name: 'on_return', prog_id: 13, link_id: 8 },
      ]),
      load('exec-count', [{ name: 'count_exec', prog_id: 114, link_id: 19 }]),
    ],
    desired: ['calls', 'exec-count'].map((name) => ({ name, version: '1.0', admin_status: 'enabled' })),
    differences: [],
  };
  const replyOf = (changes: Partial<Probes>): Reply => ({
    host: 'web1',
    known: true,
    hooks: [],
    probes: { ...probes, ...changes },
  });

  it('are listed after the chains, with what keeps each function attached', () => {
    const lines = [
      '',
      '  ✔  probes',
      '    calls 1.0       on_call     prog 12   link 7',
      '    calls 1.0       on_return   prog 13   link 8',
      '    exec-count 1.0  count_exec  prog 114  link 19',
    ];

    assert.deepEqual(drawn(replyOf({})), ['web1', ...lines]);
    const hook = { iface: 'eth1', direction: 'egress' as const, interface_present: true };
    const none = { strands: [], desired: [], differences: [] };
    assert.deepEqual(drawn({ ...replyOf({}), hooks: [{ ...hook, ...none }] }).slice(-lines.length), lines);
  });

  it('are red where they differ from the desired state', () => {
    const changes: Partial<Probes> = {
      standing: [load('calls', [{ name: 'on_call' }])],
      desired: [...probes.desired, { name: 'off', version: '2.0', admin_status: 'disabled' }],
      differences: [
        { kind: 'detached', programs: ['calls'], text: 'on_call of calls 1.0 is not attached' },
        { kind: 'missing', programs: ['exec-count'], text: 'exec-count 1.0 is desired, but not attached' },
      ],
    };

    assert.deepEqual(drawn(replyOf(changes), tagged).slice(2), [
      '  <red:✖>  <bold:probes>',
      '    <red:calls 1.0       on_call  not pinned  not attached>',
      '    <red:exec-count 1.0  missing>',
      '    <dim:disabled: off 2.0>',
      '    <red:✖ on_call of calls 1.0 is not attached>',
      '    <red:✖ exec-count 1.0 is desired, but not attached>',
    ]);
  });

  it('cannot send escape sequences to the terminal', () => {
    const evil = '\u001b[2J';
    const standing = [load(evil, [{ name: evil }])];
    const lines = drawn(replyOf({ standing, differences: [{ kind: 'extra', programs: [evil], text: evil }] }));

    assert.ok(lines.every((line) => !line.includes('\u001b')));
  });
});
