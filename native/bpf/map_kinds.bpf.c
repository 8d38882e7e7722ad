// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Counts packets by tables and variables of every kind. It exists for the kinds that policy.bpf.c does not have: maps whose
 * types the kernel or libbpf drop, maps that take no entries, global variables, members without name, and a table that
 * an XDP and a TC program share.
 */
#include "cell.h"
#include "chain.h"

#include <linux/pkt_cls.h>

CHAIN_SLOT(kinds_next);
CHAIN_SLOT(kinds_tc_next);

/* Set before the program is loaded. With 0, the limit is off and the verifier removes its code. */
const volatile __u32 kinds_limit = 0;
const volatile struct {
	__u16 low, high;
} kinds_range = { .low = 1, .high = 2 };

/* Changed at any time, also while the program counts beside it. */
__u64 kinds_seen;
__u32 kinds_step = 1;
__u8 kinds_flags[3];

#define TABLE(map_name, map_type, entries, key_type, value_type)                                                       \
	struct {                                                                                                       \
		__uint(type, map_type);                                                                                \
		__uint(max_entries, entries);                                                                          \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} map_name SEC(".maps")

struct four {
	__u8 byte[4];
};

struct pair {
	__u32 first;
	__u32 second;
};

/* The kernel takes no BTF for an array whose keys are no plain numbers. */
TABLE(kinds_struct_key, BPF_MAP_TYPE_ARRAY, 4, struct four, struct pair);
/* libbpf gives these none. */
TABLE(kinds_ports, BPF_MAP_TYPE_DEVMAP, 8, __u32, __u32);
TABLE(kinds_port_values, BPF_MAP_TYPE_DEVMAP, 8, __u32, struct bpf_devmap_val);
TABLE(kinds_targets, BPF_MAP_TYPE_DEVMAP_HASH, 8, __u32, struct bpf_devmap_val);
TABLE(kinds_cpus, BPF_MAP_TYPE_CPUMAP, 2, __u32, struct bpf_cpumap_val);

/* Without values that a payload could give. */
TABLE(kinds_sockets, BPF_MAP_TYPE_XSKMAP, 4, __u32, __u32);

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__type(value, __u32);
} kinds_queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 4);
	__type(value, __u32);
} kinds_bloom SEC(".maps");

struct counters {
	union {
		__u64 packets;
		__u64 rx_packets;
	};
	union {
		__u64 bytes;
		struct {
			__u32 bytes_low;
			__u32 bytes_high;
		};
	};
};

TABLE(kinds_counters, BPF_MAP_TYPE_PERCPU_ARRAY, 4, __u32, struct counters);

struct rule_key {
	__u32 family;
	union {
		__be32 ip4;
		__u8 ip6[16];
	};
	struct {
		__u16 port;
		__u16 protocol;
	};
};

TABLE(kinds_rules, BPF_MAP_TYPE_HASH, 16, struct rule_key, __u32);

/* Counts only under keys that exist. */
TABLE(kinds_counted, BPF_MAP_TYPE_HASH, 8, __u32, __u64);

#define LIMITED(map_name, access)                                                                                      \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_HASH);                                                                       \
		__uint(max_entries, 4);                                                                                \
		__uint(map_flags, access);                                                                             \
		__type(key, __u32);                                                                                    \
		__type(value, __u64);                                                                                  \
	} map_name SEC(".maps")

LIMITED(kinds_read_only, BPF_F_RDONLY);
LIMITED(kinds_write_only, BPF_F_WRONLY);
LIMITED(kinds_program_reads, BPF_F_RDONLY_PROG);

/* Written at one hook and read at the other. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} kinds_shared SEC(".maps");

static __always_inline void look_up(__u64 *key)
{
	bpf_map_lookup_elem(&kinds_struct_key, key);
	bpf_map_lookup_elem(&kinds_rules, key);
	bpf_map_lookup_elem(&kinds_read_only, key);
	bpf_map_lookup_elem(&kinds_write_only, key);
	bpf_map_lookup_elem(&kinds_program_reads, key);
	bpf_map_peek_elem(&kinds_queue, key);
	bpf_map_peek_elem(&kinds_bloom, key);
}

SEC("xdp-kinds")
int xdp_kinds(struct xdp_md *ctx)
{
	__u64 length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;
	__u64 keys[4] = {};
	__u32 key = 0;
	struct counters *counters = bpf_map_lookup_elem(&kinds_counters, &key);
	__u64 *counted = bpf_map_lookup_elem(&kinds_counted, &key);
	__u64 *shared = bpf_map_lookup_elem(&kinds_shared, &key);

	/* A pointer into the packet cannot wait on the stack for its subtraction. */
	asm volatile("" : "+r"(length));
	__sync_fetch_and_add(&kinds_seen, kinds_step + kinds_flags[1]);
	if (counters) {
		counters->packets += 1;
		counters->bytes += length;
	}
	if (counted)
		__sync_fetch_and_add(counted, 1);
	if (shared)
		__sync_fetch_and_add(shared, 1);
	look_up(keys);
	if (ctx->rx_queue_index == 99) {
		bpf_redirect_map(&kinds_ports, 0, 0);
		bpf_redirect_map(&kinds_port_values, 0, 0);
		bpf_redirect_map(&kinds_targets, 0, 0);
		bpf_redirect_map(&kinds_cpus, 0, 0);
		return bpf_redirect_map(&kinds_sockets, kinds_range.low, 0);
	}
	if (kinds_limit && length > kinds_limit)
		return XDP_DROP;

	CHAIN_NEXT(ctx, kinds_next);
	return CHAIN_END_XDP;
}

SEC("tc-kinds")
int tc_kinds(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 none = 0;

	bpf_map_update_elem(&kinds_shared, &key, &none, BPF_NOEXIST);
	CHAIN_NEXT(skb, kinds_tc_next);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
