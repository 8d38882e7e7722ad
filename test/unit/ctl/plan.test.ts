import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderPlan, renderRefusal } from '../../../src/ctl/render.js';
import type { Style } from '../../../src/ctl/style.js';
import type { ReplyOf } from '../../../src/messages/requests.js';

type Plan = ReplyOf<'plan'>;

const plain: Style = (_format, text) => text;
/** Shows styled text as `<red:text>`. */
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
  it('says what happens to each program, why, and the steps in their order', () => {
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
      'Before the change, no effect on packets (tried for this plan and rolled back):',
      '  fetch it',
      '  load it',
      '',
      'The change itself:',
      '  link it',
      '',
      'After the change:',
      '  wait',
    ]);
  });

  it('has a colour for each mark', () => {
    const colours = renderPlan(PLAN, tagged).flatMap(
      (line) => /^<(\w+): {2}([-+~=]) /.exec(line)?.slice(1).join(' ') ?? [],
    );

    assert.deepEqual(colours, ['green +', 'yellow ~', 'yellow ~', 'red -', 'dim =', 'dim =']);
  });

  it('without changes is one plain line', () => {
    const nothing = { ...PLAN, changes: false, reasons: [], prepare: [], commit: [], cleanup: [] };

    assert.deepEqual(renderPlan(nothing, tagged), ['No changes: web1 already matches the payload.']);
    const outcomes = nothing.outcomes.map((outcome) => ({ ...outcome, message: 'An entry waits' }));
    assert.deepEqual(renderPlan({ ...nothing, outcomes: outcomes.slice(0, 1) }, plain), [
      'No changes: web1 already matches the payload, as far as it can now.',
      `  ${outcomes[0]!.name}: An entry waits`,
    ]);
  });

  it('leaves out empty parts', () => {
    const only = renderPlan({ ...PLAN, outcomes: PLAN.outcomes.slice(0, 1), prepare: [], cleanup: [] }, plain);

    assert.deepEqual(only.slice(1), ['', 'eth1/xdpingress: because', '', 'The change itself:', '  link it']);
  });

  it('cannot send escape sequences to the terminal', () => {
    const evil = '\u001b[2J';
    const lines = renderPlan(
      { ...PLAN, reasons: [evil], commit: [{ op: 'x', text: evil }], outcomes: [outcome(evil, evil)] },
      plain,
    );

    assert.ok(lines.every((line) => !line.includes('\u001b')));
  });
});

describe('a plan that is refused', () => {
  const message = 'load broken 1.0 for eth1/xdpingress: The verifier refused broken';
  const path = '0.bpf_programs.xdp_ingress.0';

  it('is shown with the place and the details, as for the command', () => {
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

  it('is shown as the sentence alone if the agent sends no more', () => {
    const lines = renderRefusal({ verb: 'deploy', host: 'web1', code: 'TIMEOUT', message: 'a\u001b[2J' }, plain);

    assert.deepEqual(lines, ['✖ deploy would fail on web1', '  TIMEOUT: a\uFFFD[2J']);
  });
});
