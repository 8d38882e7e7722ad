import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  renderAcknowledgement,
  renderAcknowledgements,
  renderPrograms,
  renderStatus,
} from '../../../src/ctl/render.js';
import { harmless, type Style, styleFor } from '../../../src/ctl/style.js';
import { table } from '../../../src/ctl/table.js';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import type { ReplyOf } from '../../../src/messages/requests.js';

const plain: Style = (_format, text) => text;
const AT = '2026-01-31T12:00:00.000Z';

const ACK: Acknowledgement = {
  id: 'cmd-1',
  host: 'web1',
  verb: 'deploy',
  gen: 7,
  seq: 1234,
  status: 'applied',
  errors: [],
  programs: [],
  received_at: AT,
  finished_at: AT,
  duration_ms: 12.3,
};

describe('colours', () => {
  it('are for terminals only', () => {
    assert.notEqual(styleFor({ isTTY: true }, {})('red', 'x'), 'x');
    assert.equal(styleFor({ isTTY: false }, {})('red', 'x'), 'x');
    assert.equal(styleFor({}, {})('red', 'x'), 'x');
  });

  it('are not used when NO_COLOR is set', () => {
    assert.equal(styleFor({ isTTY: true }, { NO_COLOR: '1' })('red', 'x'), 'x');
    assert.notEqual(styleFor({ isTTY: true }, { NO_COLOR: '' })('red', 'x'), 'x');
  });
});

describe('text from the bus', () => {
  it('cannot move the cursor or colour the terminal', () => {
    assert.equal(harmless('a\u001b[2Jb\u0007c\rd\u009be\tf\ng'), 'a\uFFFD[2Jb\uFFFDc\uFFFDd\uFFFDe\tf\ng');
  });

  it('is made harmless in an acknowledgement', () => {
    const evil = '\u001b[2J';
    const errors = [{ path: evil, code: 'KERNEL' as const, message: evil, detail: evil }];
    const lines = renderAcknowledgement(
      { ...ACK, status: 'failed', code: 'KERNEL', message: `x${evil}`, errors },
      plain,
    );

    assert.ok(lines.every((line) => !line.includes('\u001b')));
  });
});

describe('a table', () => {
  it('aligns its columns and ends no line with blanks', () => {
    const columns = [{ title: 'NAME' }, { title: 'N', align: 'right' }, { title: 'NOTE' }] as const;

    assert.deepEqual(
      table(
        columns,
        [
          ['longer-name', '5', ''],
          ['x', '100', 'hm'],
        ],
        plain,
      ),
      ['NAME           N  NOTE', 'longer-name    5', 'x            100  hm'],
    );
  });
});

describe('a table that is wider than the terminal', () => {
  const columns = [{ title: 'NAME' }, { title: 'N', align: 'right' }, { title: 'NOTE' }] as const;
  const rows = [
    ['longer-name', '5', 'something long'],
    ['x', '100', ''],
  ];

  it('has its last column below the others', () => {
    const folded = ['NAME           N', '     NOTE', 'longer-name    5', '     something long', 'x            100'];

    assert.deepEqual(table(columns, rows, plain, 31), folded);
    assert.deepEqual(table(columns, rows, plain, 32), table(columns, rows, plain));
  });

  it('of acknowledgements fits a terminal of 80 columns', () => {
    const id = '62f6181d-3746-49b9-be66-aa0ac8d8b559';
    const acks = renderAcknowledgements([{ ...ACK, id, status: 'unchanged', code: 'VERIFIER_REJECTED' }], plain, 80);

    assert.ok(Math.max(...acks.map(({ length }) => length)) <= 80, acks.join('\n'));
    assert.equal(acks.at(-1)?.trim(), id);
  });
});

describe('an acknowledgement', () => {
  it('shows every fault with its place if there are several', () => {
    const errors = [
      { path: '0.iface', code: 'INVALID_FIELD' as const, message: 'Expected iface to be x, got y' },
      { path: '0.host_name', code: 'FOREIGN_HOST' as const, message: 'Expected host_name to be a, got b' },
    ];
    const message = 'Expected iface to be x, got y (and 1 more)';
    const lines = renderAcknowledgement({ ...ACK, status: 'rejected', code: 'INVALID_FIELD', message, errors }, plain);

    assert.deepEqual(lines, [
      '✖ deploy cmd-1 on web1: rejected in 12 ms',
      '  INVALID_FIELD: Expected iface to be x, got y (and 1 more)',
      '  0.iface',
      '    INVALID_FIELD: Expected iface to be x, got y',
      '  0.host_name',
      '    FOREIGN_HOST: Expected host_name to be a, got b',
    ]);
  });

  it('does not repeat leftovers that its message names already', () => {
    const left = ['see 1 program gone from the kernel: Program 4711 is still there', 'unpin: busy'];
    const message = `Done, but not everything was removed: ${left.join('; ')}`;
    const errors = left.map((text) => ({ code: 'LEFTOVER' as const, message: text, detail: 'EBUSY' }));
    const lines = renderAcknowledgement({ ...ACK, message, errors }, plain);

    assert.deepEqual(lines, ['✔ deploy cmd-1 on web1: applied in 12 ms', `  ${message}`, '      EBUSY', '      EBUSY']);
  });

  it('says that a probe is a probe', () => {
    const probe = { iface: '', direction: '' as const, name: 'exec-count', version: '1.0', result: 'started' as const };
    const [, , row] = renderAcknowledgement({ ...ACK, programs: [{ ...probe, prog_id: 12 }] }, plain);

    assert.deepEqual(row?.trim().split(/ {2,}/), ['-', 'probe', 'exec-count', '1.0', 'started', '12']);
  });

  it('warns when the host is not in its former state', () => {
    const lines = renderAcknowledgement({ ...ACK, status: 'failed', undone: false }, plain);

    assert.match(lines.join('\n'), /Not everything could be rolled back/);
  });

  it('is one line in a list', () => {
    const [, line] = renderAcknowledgements([{ ...ACK, status: 'failed', code: 'KERNEL' }], plain);

    assert.equal(line, '✖  2026-01-31T12:00:00.000Z  1234    7  deploy  failed  KERNEL  12  cmd-1');
  });
});

describe('agents and programs', () => {
  const status: ReplyOf<'status'> = {
    host: 'web2',
    version: '0.1.0',
    instance_id: 'i',
    started_at: AT,
    ready: true,
    datapath: 'libbpf',
    queued: 1,
    gen: 7,
    last_command: { id: 'cmd-1', verb: 'deploy', seq: 1, status: 'applied', finished_at: AT },
    hooks: [
      { iface: 'eth1', direction: 'xdpingress', attached: true, kind: 'xdp', desired: 3, running: 2 },
      { iface: 'eth1', direction: 'ingress', attached: true, kind: 'tcx', desired: 1, running: 1 },
    ],
  };

  it('are listed by host, with the numbers of running and desired programs', () => {
    const lines = renderStatus([status, { ...status, host: 'web1', ready: false }], plain);

    assert.deepEqual(
      lines.slice(1).map((line) => line.split(/ {2,}/)),
      [
        ['web1', '0.1.0', 'starting', '3/4', '1', '7', `deploy applied ${AT}`],
        ['web2', '0.1.0', 'ready', '3/4', '1', '7', `deploy applied ${AT}`],
      ],
    );
  });

  it('that cannot take commands, or not have them stored, are marked, with the reason', () => {
    const paused = { ...status, ready: false, troubles: [{ task: 'consuming' as const, message: 'It is paused' }] };
    const full = { ...status, host: 'web3', troubles: [{ task: 'storing' as const, message: 'No space' }] };
    const lines = renderStatus([paused, full], plain);

    assert.deepEqual(
      lines.slice(1, 3).map((line) => line.split(/ {2,}/)[2]),
      ['cannot consume', 'ready'],
    );
    assert.deepEqual(lines.slice(3), ['web2: It is paused', 'web3: No space']);
  });

  it('are replaced by a sentence if there are no programs', () => {
    assert.deepEqual(renderPrograms([{ host: 'web1', programs: [] }], plain), ['No programs are desired on web1.']);
  });

  it('show for each program whether it runs', () => {
    const program = {
      iface: 'eth1',
      direction: 'xdpingress' as const,
      name: 'ratelimiting',
      version: '1.0',
      seq_id: 1,
      admin_status: 'enabled' as const,
      running: true,
      mode: 'generic' as const,
      prog_id: 42,
      map_name: '',
    };
    const { prog_id: _, mode: __, ...stopped } = { ...program, running: false };
    const probe = { ...stopped, iface: '', direction: '' as const };
    const programs = [program, { ...stopped, admin_status: 'disabled' as const }, stopped, probe];
    const lines = renderPrograms([{ host: 'web1', programs }], plain).slice(1);

    assert.deepEqual(
      lines.map((line) => line.split(/ {2,}/).toSpliced(4, 2)),
      [
        ['web1', 'eth1', 'xdpingress', '1', 'running', 'generic', '42'],
        ['web1', 'eth1', 'xdpingress', '1', 'disabled', '-', '-'],
        ['web1', 'eth1', 'xdpingress', '1', 'not running', '-', '-'],
        ['web1', '-', 'probe', '-', 'not running', '-', '-'],
      ],
    );
  });
});
