import { Struct } from '../../struct.js';

/*
 * The structures that are exchanged with the kernel and with libbpf, each with the fields up to the last one in use. A
 * test compares every field with the running kernel and with the headers (integration/datapath/libbpf/abi).
 */

/** include/uapi/linux/bpf.h */
export const PROG_INFO = new Struct('bpf_prog_info', {
  type: 'u32',
  id: 'u32',
  tag: 'u8[8]',
  jited_prog_len: 'u32',
  xlated_prog_len: 'u32',
  jited_prog_insns: 'u64',
  xlated_prog_insns: 'u64',
  load_time: 'u64',
  created_by_uid: 'u32',
  nr_map_ids: 'u32',
  map_ids: 'u64',
  name: 'char[16]',
  ifindex: 'u32',
  // A bit-field without an offset of its own: gpl_compatible.
  netns_dev: 'u64',
  netns_ino: 'u64',
  nr_jited_ksyms: 'u32',
  nr_jited_func_lens: 'u32',
  jited_ksyms: 'u64',
  jited_func_lens: 'u64',
  btf_id: 'u32',
  func_info_rec_size: 'u32',
  func_info: 'u64',
  nr_func_info: 'u32',
  nr_line_info: 'u32',
  line_info: 'u64',
  jited_line_info: 'u64',
  nr_jited_line_info: 'u32',
  line_info_rec_size: 'u32',
  jited_line_info_rec_size: 'u32',
  nr_prog_tags: 'u32',
  prog_tags: 'u64',
  run_time_ns: 'u64',
  run_cnt: 'u64',
});

export const MAP_INFO = new Struct('bpf_map_info', {
  type: 'u32',
  id: 'u32',
  key_size: 'u32',
  value_size: 'u32',
  max_entries: 'u32',
  map_flags: 'u32',
  name: 'char[16]',
  ifindex: 'u32',
  btf_vmlinux_value_type_id: 'u32',
  netns_dev: 'u64',
  netns_ino: 'u64',
  btf_id: 'u32',
  btf_key_type_id: 'u32',
  btf_value_type_id: 'u32',
});

/** Up to the first word of the part that depends on the type. For XDP and TCX that is the interface. */
export const LINK_INFO = new Struct('bpf_link_info', {
  type: 'u32',
  id: 'u32',
  prog_id: 'u32',
  'xdp.ifindex': { type: 'u32', align: 8 },
});

export const BTF_INFO = new Struct('bpf_btf_info', { btf: 'u64', btf_size: 'u32', id: 'u32' });

/** `link_create` of `union bpf_attr`, up to `tcx.expected_revision`. */
export const LINK_CREATE_ATTR = new Struct('bpf_attr.link_create', {
  prog_fd: 'u32',
  target_ifindex: 'u32',
  attach_type: 'u32',
  flags: 'u32',
  'tcx.relative_fd': 'u32',
  'tcx.expected_revision': 'u64',
});

/** `dst_reg` stands for both registers, which share a byte. */
export const INSN = new Struct('bpf_insn', { code: 'u8', dst_reg: 'u8', off: 'u16', imm: 's32' });

/** bpf/bpf.h of libbpf: option structures begin with their own size, `sz`. */
export const LINK_CREATE_OPTS = new Struct('bpf_link_create_opts', { sz: 'u64', flags: 'u32' });
export const LINK_UPDATE_OPTS = new Struct('bpf_link_update_opts', { sz: 'u64', flags: 'u32', old_prog_fd: 'u32' });
export const MAP_CREATE_OPTS = new Struct('bpf_map_create_opts', {
  sz: 'u64',
  btf_fd: 'u32',
  btf_key_type_id: 'u32',
  btf_value_type_id: 'u32',
  btf_vmlinux_value_type_id: 'u32',
  inner_map_fd: 'u32',
  map_flags: 'u32',
});
export const PROG_LOAD_OPTS = new Struct('bpf_prog_load_opts', {
  sz: 'u64',
  attempts: 's32',
  expected_attach_type: 'u32',
  prog_btf_fd: 'u32',
  prog_flags: 'u32',
  prog_ifindex: 'u32',
  kern_version: 'u32',
  attach_btf_id: 'u32',
  attach_prog_fd: 'u32',
});

/** bpf/libbpf.h of libbpf. */
export const TC_HOOK = new Struct('bpf_tc_hook', { sz: 'u64', ifindex: 's32', attach_point: 'u32', parent: 'u32' });
export const TC_OPTS = new Struct('bpf_tc_opts', {
  sz: 'u64',
  prog_fd: 's32',
  flags: 'u32',
  prog_id: 'u32',
  handle: 'u32',
  priority: 'u32',
});

/** include/uapi/linux/perf_event.h, up to `config2`. */
export const PERF_EVENT_ATTR = new Struct('perf_event_attr', {
  type: 'u32',
  size: 'u32',
  config: 'u64',
  sample_period: 'u64',
  sample_type: 'u64',
  read_format: 'u64',
  // The first of the bit-fields stands for all of them.
  disabled: 'u64',
  wakeup_events: 'u32',
  bp_type: 'u32',
  config1: 'u64',
  config2: 'u64',
});

/** include/uapi/linux/netlink.h and rtnetlink.h */
export const NLMSGHDR = new Struct('nlmsghdr', {
  nlmsg_len: 'u32',
  nlmsg_type: 'u16',
  nlmsg_flags: 'u16',
  nlmsg_seq: 'u32',
  nlmsg_pid: 'u32',
});
export const NLATTR = new Struct('nlattr', { nla_len: 'u16', nla_type: 'u16' });
export const NLMSGERR = new Struct('nlmsgerr', { error: 's32' });
export const IFINFOMSG = new Struct('ifinfomsg', {
  ifi_family: 'u8',
  ifi_type: 'u16',
  ifi_index: 's32',
  ifi_flags: 'u32',
  ifi_change: 'u32',
});
export const TCMSG = new Struct('tcmsg', {
  tcm_family: 'u8',
  tcm_ifindex: 's32',
  tcm_handle: 'u32',
  tcm_parent: 'u32',
  tcm_info: 'u32',
});

/** include/uapi/linux/inotify.h. A name of `len` bytes follows. */
export const INOTIFY_EVENT = new Struct('inotify_event', { wd: 's32', mask: 'u32', cookie: 'u32', len: 'u32' });

/** include/uapi/linux/ethtool.h and if.h */
export const ETHTOOL_VALUE = new Struct('ethtool_value', { cmd: 'u32', data: 'u32' });
export const IFREQ = new Struct('ifreq', {
  'ifr_ifrn.ifrn_name': 'char[16]',
  'ifr_ifru.ifru_data': 'ptr',
  rest: 'u8[16]',
});
