// SPDX-License-Identifier: Apache-2.0
//
// One XDP program, `xdp_kinds`, with one thing beside it that packages may have: which one is said with -DCASE_<name>.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SLOT(NAME, ENTRIES)                                                                                            \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, ENTRIES);                                                                          \
		__type(key, __u32);                                                                                    \
		__type(value, __u32);                                                                                  \
	} NAME SEC(".maps")

#define MAP(NAME, KIND, KEY, VALUE, ENTRIES)                                                                           \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_##KIND);                                                                     \
		__uint(max_entries, ENTRIES);                                                                          \
		__type(key, KEY);                                                                                      \
		__type(value, VALUE);                                                                                  \
	} NAME SEC(".maps")

#ifndef SECTION
#define SECTION "xdp"
#endif
#ifndef LICENSE
#define LICENSE "GPL"
#endif

char kinds_license[] SEC("license") = LICENSE;

#if defined(CASE_pin_by_name)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u16);
	__type(value, __u64);
} kinds_pinned SEC(".maps");

#elif defined(CASE_global_data)
const volatile __u32 kinds_limit = 7;
__u64 kinds_seen;
__u32 kinds_start = 3;

#elif defined(CASE_kconfig)
extern int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_L3AF_DOES_NOT_EXIST __kconfig __weak;

#elif defined(CASE_kconfig_missing)
extern int CONFIG_L3AF_DOES_NOT_EXIST __kconfig;

#elif defined(CASE_subprograms)
static __noinline int kinds_static(__u32 length)
{
	return length > 1000 ? XDP_DROP : XDP_PASS;
}

__noinline int kinds_global(struct xdp_md *ctx)
{
	return ctx->ingress_ifindex != 0;
}

#elif defined(CASE_map_kinds)
struct prefix {
	__u32 length;
	__u32 address;
};
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} kinds_prefixes SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} kinds_ring SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 16);
	__type(value, __u32);
} kinds_queue SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} kinds_events SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16);
	__uint(key_size, 4);
	__uint(value_size, 127 * 8);
} kinds_stacks SEC(".maps");
struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} kinds_inner SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} kinds_outer SEC(".maps") = { .values = { [1] = &kinds_inner } };
MAP(kinds_lru, LRU_HASH, __u32, __u64, 16);
MAP(kinds_devices, DEVMAP, __u32, __u32, 4);
MAP(kinds_cpus, CPUMAP, __u32, __u32, 4);
MAP(kinds_sockets, XSKMAP, __u32, __u32, 4);

#elif defined(CASE_legacy_maps)
struct bpf_map_def_of_old {
	unsigned int type, key_size, value_size, max_entries, map_flags;
};
struct bpf_map_def_of_old kinds_old SEC("maps") = { BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0 };

#elif defined(CASE_own_array)
SLOT(kinds_stages, 4);
SLOT(kinds_next, 1);

#elif defined(CASE_long_slot)
SLOT(kinds_next_program_of_the_chain, 1);

#elif defined(CASE_array)
MAP(kinds_array, ARRAY, __u32, __u64, 1);

#elif defined(CASE_struct_ops)
struct l3af_no_such_ops {
	int (*run)(void);
};
SEC("struct_ops/run") int kinds_run(void *ctx)
{
	return 0;
}
SEC(".struct_ops") struct l3af_no_such_ops kinds_ops = { .run = (void *)kinds_run };
#endif

SEC(SECTION) int xdp_kinds(struct xdp_md *ctx)
{
	__u32 key = 0;

#if defined(CASE_pin_by_name)
	bpf_map_lookup_elem(&kinds_pinned, &(__u16){ 1 });
#elif defined(CASE_global_data)
	kinds_seen += kinds_start;
	if (kinds_seen > kinds_limit)
		return XDP_PASS;
#elif defined(CASE_kconfig)
	if (LINUX_KERNEL_VERSION > 0 && CONFIG_L3AF_DOES_NOT_EXIST)
		return XDP_DROP;
#elif defined(CASE_kconfig_missing)
	if (CONFIG_L3AF_DOES_NOT_EXIST)
		return XDP_DROP;
#elif defined(CASE_subprograms)
	if (kinds_global(ctx))
		return kinds_static(ctx->rx_queue_index);
#elif defined(CASE_map_kinds)
	struct prefix prefix = { 32, 1 };
	void *inner = bpf_map_lookup_elem(&kinds_outer, &key);
	if (inner)
		bpf_map_lookup_elem(inner, &key);
	bpf_map_lookup_elem(&kinds_prefixes, &prefix);
	bpf_map_lookup_elem(&kinds_lru, &key);
	bpf_map_push_elem(&kinds_queue, &key, 0);
	bpf_ringbuf_output(&kinds_ring, &key, sizeof(key), 0);
	bpf_perf_event_output(ctx, &kinds_events, BPF_F_CURRENT_CPU, &key, sizeof(key));
	if (key == 1)
		return bpf_redirect_map(&kinds_cpus, key, 0);
	if (bpf_redirect_map(&kinds_sockets, ctx->rx_queue_index, XDP_PASS) == XDP_REDIRECT)
		return XDP_REDIRECT;
	return bpf_redirect_map(&kinds_devices, key, XDP_PASS);
#elif defined(CASE_legacy_maps)
	bpf_map_lookup_elem(&kinds_old, &key);
#elif defined(CASE_own_array)
	bpf_tail_call(ctx, &kinds_stages, 2);
	bpf_tail_call(ctx, &kinds_next, 0);
#elif defined(CASE_long_slot)
	bpf_tail_call(ctx, &kinds_next_program_of_the_chain, 0);
#elif defined(CASE_array)
	bpf_map_lookup_elem(&kinds_array, &key);
#elif defined(CASE_gpl_helper)
	bpf_trace_printk("x", 2);
#endif
	return XDP_PASS;
}
