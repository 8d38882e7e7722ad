import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderPlan, renderRefusal } from '../../../src/ctl/render.js';
import type { Style } from '../../../src/ctl/style.js';
import type { ReplyOf } from '../../../src/messages/requests.js';

type Plan = ReplyOf<'plan'>;

const plain: Style = (_format, text) => text;
/** `<red:text>` */
const tagged: Style = (format, text) => `<${[format].flat().join('+')}:${text}>`;

const outcome = (name: string, result: string, direction: 'xdpingress' | 'egress' = 'xdpingress') => {
  return { iface: 'eth1', direction, name, version: '1.0', result };
};

const PLAN: Plan = {
  host: 'web1',
  changes: true,
  reasons: ['eth1/xdpingress: because'],
  prepare: [
    { op: 'fetch', text: 'fetch it' },
    { op: 'load', text: 'load it' },
  ],
  commit: [{ op: 'link', text: 'link it' }],
  cleanup: [{ op: 'grace', text: 'wait' }],
  outcomes: [
    outcome('new', 'started'),
    outcome('other', 'updated'),
    outcome('elsewhere', 'moved'),
    outcome('old', 'stopped', 'egress'),
    outcome('same', 'unchanged'),
    outcome('off', 'disabled'),
  ],
};

describe('a plan', () => {
  it('tells what becomes of each program, why, and the steps in their order', () => {
    assert.deepEqual(renderPlan(PLAN, plain), [
      '  + eth1/xdpingress  new 1.0        started',
      '  ~ eth1/xdpingress  other 1.0      updated',
      '  ~ eth1/xdpingress  elsewhere 1.0  moved',
      '  - eth1/egress      old 1.0        stopped',
      '  = eth1/xdpingress  same 1.0       unchanged',
      '  = eth1/xdpingress  off 1.0        disabled',
      '',
      'eth1/xdpingress: because',
      '',
      'Beforehand, unnoticed by packets (tried for this plan, and taken back):',
      '  fetch it',
      '  load it',
      '',
      'The change itself:',
      '  link it',
      '',
      'Afterwards:',
      '  wait',
    ]);
  });

  it('has a colour for each mark', () => {
    const colours = renderPlan(PLAN, tagged).flatMap(
      (line) => /^<(\w+): {2}([-+~=]) /.exec(line)?.slice(1).join(' ') ?? [],
    );

    assert.deepEqual(colours, ['green +', 'yellow ~', 'yellow ~', 'red -', 'dim =', 'dim =']);
  });

  it('of nothing says so on one plain line', () => {
    const nothing = { ...PLAN, changes: false, reasons: [], prepare: [], commit: [], cleanup: [] };

    assert.deepEqual(renderPlan(nothing, tagged), ['No changes: web1 is as the payload asks.']);
  });

  it('leaves out what it does not do', () => {
    const only = renderPlan({ ...PLAN, outcomes: PLAN.outcomes.slice(0, 1), prepare: [], cleanup: [] }, plain);

    assert.deepEqual(only.slice(1), ['', 'eth1/xdpingress: because', '', 'The change itself:', '  link it']);
  });

  it('cannot recolour the terminal', () => {
    const evil = '\u001b[2J';
    const lines = renderPlan(
      { ...PLAN, reasons: [evil], commit: [{ op: 'x', text: evil }], outcomes: [outcome(evil, evil)] },
      plain,
    );

    assert.ok(lines.every((line) => !line.includes('\u001b')));
  });
});

describe('a plan that there is none of', () => {
  const message = 'load broken 1.0 for eth1/xdpingress: The verifier refused broken';
  const path = '0.bpf_programs.xdp_ingress.0';

  it('is told with its place and what lies beneath, as the command would be', () => {
    const errors = [{ path, code: 'VERIFIER_REJECTED' as const, message, detail: '0: (b7) r0 = 1\ninvalid access' }];
    const lines = renderRefusal({ verb: 'add', host: 'web1', code: 'VERIFIER_REJECTED', message, errors }, plain);

    assert.deepEqual(lines, [
      '✖ add would fail on web1',
      `  VERIFIER_REJECTED: ${message}`,
      `  ${path}`,
      '      0: (b7) r0 = 1',
      '      invalid access',
    ]);
  });

  it('is told with the sentence alone by agents that say no more', () => {
    const lines = renderRefusal({ verb: 'deploy', host: 'web1', code: 'TIMEOUT', message: 'a\u001b[2J' }, plain);

    assert.deepEqual(lines, ['✖ deploy would fail on web1', '  TIMEOUT: a\uFFFD[2J']);
  });
});
