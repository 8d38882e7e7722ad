import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { describeTarget, parseProbeSection, variantsOf } from '../../../src/domain/probe.js';

describe('the section of a probe', () => {
  for (const [section, words] of [
    ['tracepoint/syscalls/sys_enter_open', 'tracepoint syscalls/sys_enter_open'],
    ['tp/sched/sched_switch', 'tracepoint sched/sched_switch'],
    ['raw_tp/sys_enter', 'raw tracepoint sys_enter'],
    ['raw_tracepoint/sys_enter', 'raw tracepoint sys_enter'],
    ['kprobe/tcp_v4_connect', 'kprobe tcp_v4_connect'],
    ['kprobe/tcp_v4_connect+0x10', 'kprobe tcp_v4_connect+16'],
    ['kprobe/icmp_send.isra.0', 'kprobe icmp_send.isra.0'],
    ['kretprobe/inet_csk_accept', 'kretprobe inet_csk_accept'],
    ['uprobe//usr/lib/libc.so.6:malloc', 'uprobe /usr/lib/libc.so.6:malloc'],
    ['uprobe/usr/bin/app:main+4', 'uprobe /usr/bin/app:main+4'],
    ['uprobe/usr/bin/app:0x1139', 'uprobe /usr/bin/app:4409'],
    ['uprobe/usr/bin/app:+16', 'uprobe /usr/bin/app:16'],
    ['uretprobe/opt/a:b/app:_ZN3fooEv', 'uretprobe /opt/a:b/app:_ZN3fooEv'],
    ['fentry/tcp_connect', 'fentry tcp_connect'],
    ['fexit/tcp_connect', 'fexit tcp_connect'],
  ] as const) {
    it(`names the target: ${section}`, () => {
      const target = parseProbeSection(section);
      assert.equal(target && describeTarget(target), words);
    });
  }

  for (const section of [
    'xdp',
    'xdp_ratelimiting',
    'tc',
    'classifier/ingress',
    '.text',
    '',
    'uprobe',
    'kprobe.multi/a*',
  ]) {
    it(`is not that of ${JSON.stringify(section)}`, () => assert.equal(parseProbeSection(section), undefined));
  }

  for (const section of [
    ...['tracepoint/', 'tracepoint/sched', 'tracepoint/a/b/c', 'tracepoint/../id', 'tracepoint/sched/..', 'tp/a b/c'],
    ...['raw_tp/', 'raw_tp/a/b', 'kprobe/', 'kprobe/a b', 'kprobe/+4', 'kprobe/a+', 'kprobe/a+b', 'kretprobe/a+4'],
    ...['uprobe/', 'uprobe/usr/bin/app', 'uprobe/usr/bin/app:', 'uprobe/app:main', 'uprobe/usr/../etc/app:main'],
    ...['uprobe/usr/bin/app:a b', 'uprobe//usr//app:main', 'fentry/', 'fexit/a/b', `kprobe/${'a'.repeat(200)}`],
  ]) {
    it(`is refused if the target is invalid: ${section.slice(0, 40)}`, () => {
      assert.throws(() => parseProbeSection(section), /^SyntaxError: The section .* is not of the form /);
    });
  }
});

describe('variants of a probe', () => {
  const namesOf = (...sections: string[]) =>
    variantsOf(sections.map((section) => ({ name: section, section }))).map((group) => group.map(({ name }) => name));

  for (const [what, sections, expected] of [
    ['three kinds at one tracepoint', ['tp_btf/a', 'raw_tp/a', 'tp/sched/a'], [['tp_btf/a', 'raw_tp/a', 'tp/sched/a']]],
    ['the end of a function', ['fexit/f', 'kretprobe/f', 'fentry/f'], [['fexit/f', 'kretprobe/f']]],
    [
      'two groups',
      ['fentry/f', 'tp/x/a', 'kprobe/f', 'raw_tp/a'],
      [
        ['fentry/f', 'kprobe/f'],
        ['tp/x/a', 'raw_tp/a'],
      ],
    ],
  ] as const) {
    it(`are told: ${what}`, () => assert.deepEqual(namesOf(...sections), expected));
  }

  for (const [what, sections] of [
    ['of one kind, several programs for one event', ['tp/sched/a', 'tracepoint/sched/a', 'kprobe/f', 'kprobe/f']],
    ['begin and end, and another place in a function', ['kprobe/f', 'kretprobe/f', 'fentry/g', 'kprobe/g+4']],
    ['an XDP program beside them', ['xdp', 'fentry/f']],
  ] as const) {
    it(`are not: ${what}`, () => assert.deepEqual(namesOf(...sections), []));
  }
});
