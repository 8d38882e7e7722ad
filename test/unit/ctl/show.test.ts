import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { drawBoxes } from '../../../src/ctl/boxes.js';
import { renderChains } from '../../../src/ctl/show.js';
import type { Style } from '../../../src/ctl/style.js';
import type { ReplyOf } from '../../../src/messages/requests.js';

type Reply = ReplyOf<'chains'>;
type Hook = Reply['hooks'][number];
type Subchain = Hook['strands'][number];

const plain: Style = (_format, text) => text;
/** Shows styled text as `<red:text>`. */
const tagged: Style = (format, text) => `<${[format].flat().join('+')}:${text}>`;

const SUBCHAIN: Subchain = {
  attachment: { kind: 'xdp', mode: 'native', link_id: 7, attached: true },
  members: [
    { name: 'xdp-root', version: 'latest', root: true, prog_id: 12, slot: { map_id: 21, next: 14 } },
    { name: 'port-count', version: '1.0', root: false, prog_id: 14, slot: { map_id: 25, next: 16 } },
    { name: 'port-drop', version: '2.0', root: false, prog_id: 16, slot: { map_id: 27, next: 18 } },
    { name: 'last', version: '1.0', root: false, prog_id: 18 },
  ],
};

/** A root, two programs with slots, and a third without a slot, all as desired. */
const HOOK: Hook = {
  iface: 'eth1',
  direction: 'xdpingress',
  interface_present: true,
  strands: [SUBCHAIN],
  desired: ['port-count 1.0', 'port-drop 2.0', 'last 1.0'].map((name, index) => desired(name, index)),
  differences: [],
};

function desired(name: string, seqId: number, status: 'enabled' | 'disabled' = 'enabled'): Hook['desired'][number] {
  const [program = '', version = ''] = name.split(' ');
  return { name: program, version, seq_id: seqId, admin_status: status };
}

function replyWith(hook: Partial<Hook>, reply: Partial<Reply> = {}): Reply {
  return { host: 'web1', known: true, hooks: [{ ...HOOK, ...hook }], ...reply };
}

/** The picture without the hint that the kernel does not count. */
function drawn(reply: Reply, style = plain, width = 100): string[] {
  const lines = renderChains([reply], style, width);
  return lines.at(-1)?.includes('No packets are counted') === true ? lines.slice(0, -2) : lines;
}

describe('the picture of a chain', () => {
  it('shows the programs in the order in which packets pass them', () => {
    assert.deepEqual(drawn(replyWith({})), [
      'web1',
      '',
      '  ✔  eth1 xdpingress  xdp native link 7',
      '    ╭ xdp-root ╮    ╭ port-count 1.0 ╮    ╭ port-drop 2.0 ╮    ╭ last 1.0 ╮',
      '    │ prog 12  │ ─▶ │ prog 14        │ ─▶ │ prog 16       │ ─▶ │ prog 18  │',
      '    ╰ slot 21 ─╯    ╰ slot 25 ───────╯    ╰ slot 27 ──────╯    ╰──────────╯',
    ]);
  });

  it('continues in the next row if the terminal is narrow', () => {
    assert.deepEqual(drawn(replyWith({}), plain, 50).slice(3), [
      '    ╭ xdp-root ╮    ╭ port-count 1.0 ╮',
      '    │ prog 12  │ ─▶ │ prog 14        │ ─▶',
      '    ╰ slot 21 ─╯    ╰ slot 25 ───────╯',
      '    ╭ port-drop 2.0 ╮    ╭ last 1.0 ╮',
      '    │ prog 16       │ ─▶ │ prog 18  │',
      '    ╰ slot 27 ──────╯    ╰──────────╯',
    ]);
  });

  it('keeps within any width that has space for a box', () => {
    const boxes = Array.from({ length: 33 }, (_, index) => {
      return {
        title: `program-${index}`,
        text: `prog ${index}`,
        foot: '',
        tone: 'plain' as const,
        reachedBy: index > 0 ? ('slot' as const) : undefined,
      };
    });
    for (let width = 20; width < 200; width += 1) {
      const lines = drawBoxes(boxes, plain, width);
      assert.ok(Math.max(...lines.map((line) => line.length)) <= width, `${width}`);
      assert.equal(lines.join('').match(/prog \d+/g)?.length, 33);
      assert.equal(lines.join('').match(/─▶/g)?.length, 32);
    }
  });

  it('shows a filter that has no link, and the disabled programs', () => {
    const { members } = SUBCHAIN;
    const hook: Partial<Hook> = {
      direction: 'egress',
      strands: [
        {
          attachment: { kind: 'clsact', link_id: 0, attached: true },
          members: [members[0]!, { ...members[1]!, slot: { map_id: 25, next: null } }],
        },
      ],
      desired: [
        desired('port-count 1.0', 1),
        desired('port-drop 2.0', 2, 'disabled'),
        desired('last 1.0', 3, 'disabled'),
      ],
    };

    assert.deepEqual(drawn(replyWith(hook)), [
      'web1',
      '',
      '  ✔  eth1 egress  clsact filter',
      '    ╭ xdp-root ╮    ╭ port-count 1.0 ╮',
      '    │ prog 12  │ ─▶ │ prog 14        │',
      '    ╰ slot 21 ─╯    ╰ slot 25 ───────╯',
      '    disabled: port-drop 2.0, last 1.0',
    ]);
  });

  it('shows programs without a slot at separate links, in the order of the links', () => {
    const [root, count, , last] = SUBCHAIN.members;
    const at = (link: number) => ({ kind: 'tcx' as const, link_id: link, attached: true });
    const hook: Partial<Hook> = {
      direction: 'ingress',
      strands: [
        { attachment: at(7), members: [root!, last!], runs: { count: 20, time_ns: 2_000 } },
        {
          attachment: at(8),
          members: [{ ...count!, slot: { map_id: 25, next: null } }],
          runs: { count: 1, time_ns: 50 },
        },
      ],
      desired: [],
    };

    assert.deepEqual(drawn(replyWith(hook)).slice(2), [
      '  ✔  eth1 ingress  tcx link 7, tcx link 8',
      '    ╭ xdp-root ╮    ╭ last 1.0 ╮    ╭ port-count 1.0 ╮',
      '    │ prog 12  │ ─▶ │ prog 18  │ ┄▶ │ prog 14        │',
      '    ╰ slot 21 ─╯    ╰──────────╯    ╰ slot 25 ───────╯',
      '    from xdp-root on: 20 packets counted, 100 ns each through the chain',
      '    from port-count on: 1 packet counted, 50 ns each through the chain',
    ]);
  });

  it('has the probes of its programs below it', () => {
    const [root, count] = SUBCHAIN.members;
    const part = { name: 'on_call', prog_id: 12, link_id: 9 };
    const members = [root!, { ...count!, slot: { map_id: 25, next: null }, probes: [part, { name: 'on\u001b' }] }];

    assert.deepEqual(drawn(replyWith({ strands: [{ ...SUBCHAIN, members }], desired: [] })).slice(5), [
      '    ╰ slot 21 ─╯    ╰ slot 25 ───────╯',
      '    probe of port-count 1.0  on_call  prog 12     link 9',
      '    probe of port-count 1.0  on\uFFFD      not pinned  not attached',
    ]);
  });

  it('says if there are no chains, and if the desired state is not known', () => {
    assert.deepEqual(drawn({ host: 'web1', known: true, hooks: [] }), ['web1', '  No chains.']);
    assert.deepEqual(drawn(replyWith({}, { known: false })).slice(0, 4), [
      'web1',
      '  The desired state is not known until the next deploy.',
      '',
      '  ?  eth1 xdpingress  xdp native link 7',
    ]);
  });
});

describe('a difference from the desired state', () => {
  const { attachment, members } = SUBCHAIN;
  const passing = (...list: Subchain['members']): Pick<Hook, 'strands'> => ({
    strands: [{ ...SUBCHAIN, members: list }],
  });
  const port = 'port-drop 2.0 is desired, but no packet passes it';

  it('is a missing program, drawn separately', () => {
    const hook: Partial<Hook> = {
      ...passing(members[0]!, { ...members[1]!, slot: { map_id: 25, next: 18 } }, members[3]!),
      differences: [{ kind: 'missing', programs: ['port-drop'], text: port }],
    };

    assert.deepEqual(drawn(replyWith(hook)).slice(2), [
      '  ✖  eth1 xdpingress  xdp native link 7',
      '    ╭ xdp-root ╮    ╭ port-count 1.0 ╮    ╭ last 1.0 ╮    ╭ port-drop 2.0 ╮',
      '    │ prog 12  │ ─▶ │ prog 14        │ ─▶ │ prog 18  │    │ missing       │',
      '    ╰ slot 21 ─╯    ╰ slot 25 ───────╯    ╰──────────╯    ╰───────────────╯',
      `    ✖ ${port}`,
    ]);
  });

  it('is a slot that leads to a foreign program, or back to an earlier one', () => {
    const strayed = (next: number): Partial<Hook> => ({
      ...passing(members[0]!, { ...members[1]!, slot: { map_id: 25, next } }),
      desired: [],
    });

    assert.deepEqual(drawn(replyWith(strayed(99))).slice(3), [
      '    ╭ xdp-root ╮    ╭ port-count 1.0 ╮    ╭ not ours ╮',
      '    │ prog 12  │ ─▶ │ prog 14        │ ─▶ │ prog 99  │',
      '    ╰ slot 21 ─╯    ╰ slot 25 ───────╯    ╰──────────╯',
    ]);
    assert.deepEqual(drawn(replyWith(strayed(14))).slice(3, 5), [
      '    ╭ xdp-root ╮    ╭ port-count 1.0 ╮    ╭ port-count again ╮',
      '    │ prog 12  │ ─▶ │ prog 14        │ ─▶ │ prog 14          │',
    ]);
  });

  it('is a chain that is not attached', () => {
    const head = (hook: Partial<Hook>) => drawn(replyWith(hook))[2];
    const differences: Hook['differences'] = [{ kind: 'detached', programs: [], text: 'x' }];

    assert.equal(
      head({ strands: [{ members, attachment: { ...attachment!, attached: false } }], differences }),
      '  ✖  eth1 xdpingress  xdp native link 7, detached',
    );
    assert.equal(head({ interface_present: false, differences }), '  ✖  eth1 xdpingress  no such interface');
    assert.equal(head({ strands: [{ members }], differences }), '  ✖  eth1 xdpingress  not attached');
  });

  it('is red, and nothing else is', () => {
    const differences: Hook['differences'] = [{ kind: 'version', programs: ['port-drop'], text: 'the wrong version' }];
    const reds = drawn(replyWith({ differences }), tagged)
      .join('\n')
      .matchAll(/<red(?:\+bold)?:([^<>]*)>/g);

    assert.deepEqual(
      [...reds].map(([, text]) => text?.trim()).filter((text) => /\w|✖/.test(text ?? '')),
      ['✖', 'port-drop 2.0', 'prog 16', '╰ slot 27 ──────╯', '✖ the wrong version'],
    );
    assert.doesNotMatch(drawn(replyWith({}), tagged).join('\n'), /<red/);
  });

  it('cannot send escape sequences to the terminal', () => {
    const evil = '\u001b[2J';
    const hook: Partial<Hook> = {
      ...passing({ ...members[1]!, name: evil, version: evil }),
      desired: [desired(`${evil} 1.0`, 1, 'disabled'), desired(`b${evil} 1.0`, 2)],
      differences: [{ kind: 'extra', programs: [evil], text: evil }],
      iface: evil,
    };

    assert.ok(drawn(replyWith(hook, { host: evil })).every((line) => !line.includes('\u001b')));
  });
});

describe('the counts of the kernel', () => {
  const entry = (runs: Partial<Subchain>): Partial<Hook> => ({ strands: [{ ...SUBCHAIN, ...runs }], desired: [] });
  const lastLine = (reply: Reply) => renderChains([reply], plain, 100).at(-1)?.trim();

  it('are below the chain, after the rate if it was requested', () => {
    const runs = { count: 12_345, time_ns: 1_234_500 };

    assert.equal(lastLine(replyWith(entry({ runs }))), '12,345 packets counted, 100 ns each through the chain');
    assert.equal(
      lastLine(replyWith(entry({ runs, recent_runs: { count: 10_000, time_ns: 1_510_000 } }), { window_ms: 2_000 })),
      '5,000 packets/s, 151 ns each through the chain; 12,345 packets counted',
    );
    assert.equal(
      lastLine(replyWith(entry({ runs, recent_runs: { count: 0, time_ns: 0 } }), { window_ms: 2_000 })),
      '0 packets/s; 12,345 packets counted',
    );
  });

  it('are missing unless counting is switched on, which is said once', () => {
    const hint = /^No packets are counted: .*--stats 2s.*run_stats/;

    assert.match(lastLine(replyWith(entry({ runs: { count: 0, time_ns: 0 } }))) ?? '', hint);
    assert.doesNotMatch(lastLine(replyWith({ strands: [{ members: SUBCHAIN.members }] })) ?? '', hint);
  });
});
