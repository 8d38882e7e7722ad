// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Passes, counts or drops packets by tables of rules. It exists for the tables: one of each map type that `map_args`
 * can fill, with keys and values of each C type.
 */
#include "cell.h"
#include "chain.h"
#include "parse.h"

#include <bpf/bpf_endian.h>

CHAIN_SLOT(policy_next);

enum verdict {
	VERDICT_PASS,
	VERDICT_COUNT,
	VERDICT_DROP = 7,
};

/* Where a packet goes. */
struct endpoint {
	__be32 address;
	__be16 port;
	__u8 protocol;
	bool fragment;
};

struct rule {
	enum verdict verdict;
	struct {
		__u64 rate;
		__s16 offset;
	} limit;
	__u8 next_hop[6];
	char label[12];
	__u16 tags[3];
	__u32 priority : 4, group : 12;
	bool logged;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, struct endpoint);
	__type(value, struct rule);
} policy_rules SEC(".maps");

struct prefix {
	__u32 length;
	__be32 address;
};

/* The longest prefix that covers the destination address, to a verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, enum verdict);
} policy_prefixes SEC(".maps");

struct budget {
	__u64 packets;
	struct bpf_spin_lock lock;
};

/* By IP protocol. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct budget);
} policy_budgets SEC(".maps");

union mark {
	__u32 number;
	__u8 bytes[8];
};

/* By port in network order. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __be16);
	__type(value, union mark);
} policy_marks SEC(".maps");

struct share {
	__u32 weight;
	__s8 bias;
};

#define PER_CPU(map_name, map_type, key_type)                                                                          \
	struct {                                                                                                       \
		__uint(type, map_type);                                                                                \
		__uint(max_entries, 8);                                                                                \
		__type(key, key_type);                                                                                 \
		__type(value, struct share);                                                                           \
	} map_name SEC(".maps")

PER_CPU(policy_cpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, __u32);
PER_CPU(policy_cpu_hash, BPF_MAP_TYPE_PERCPU_HASH, __u16);
PER_CPU(policy_cpu_lru, BPF_MAP_TYPE_LRU_PERCPU_HASH, __u16);

CELL(policy_seen, __u64);
CELL(policy_matched, __u64);
/* Values of the last matching rule, budget, mark and shares: they prove that the entries were read correctly. */
CELL(policy_last, __u64);

static __always_inline enum verdict verdict_of(struct endpoint *to)
{
	struct prefix prefix = { .length = 32, .address = to->address };
	struct rule *rule = bpf_map_lookup_elem(&policy_rules, to);
	enum verdict *verdict = bpf_map_lookup_elem(&policy_prefixes, &prefix);

	if (rule) {
		count(&policy_matched, 1);
		count(&policy_last, rule->limit.rate);
		return rule->verdict;
	}
	return verdict ? *verdict : VERDICT_PASS;
}

static __always_inline void sum_up(struct endpoint *to)
{
	__u32 protocol = to->protocol & 3;
	__u16 port = bpf_ntohs(to->port);
	struct budget *budget = bpf_map_lookup_elem(&policy_budgets, &protocol);
	union mark *mark = bpf_map_lookup_elem(&policy_marks, &to->port);
	struct share *array = bpf_map_lookup_elem(&policy_cpu_array, &protocol);
	struct share *hash = bpf_map_lookup_elem(&policy_cpu_hash, &port);
	struct share *lru = bpf_map_lookup_elem(&policy_cpu_lru, &port);

	if (budget)
		count(&policy_last, budget->packets);
	if (mark)
		count(&policy_last, mark->number);
	if (array)
		count(&policy_last, array->weight);
	if (hash)
		count(&policy_last, hash->weight);
	if (lru)
		count(&policy_last, lru->weight);
}

SEC("xdp-policy")
int xdp_policy(struct xdp_md *ctx)
{
	struct flow flow = parse_xdp(ctx);
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct endpoint to = { .port = bpf_htons(flow.port), .protocol = flow.protocol, .fragment = flow.fragment };
	struct iphdr *ip = data + sizeof(struct ethhdr);
	enum verdict verdict;

	count(&policy_seen, 1);
	/* Untagged IPv4 only. */
	if (flow.ip_version == 4 && flow.l3_offset == sizeof(struct ethhdr) && (void *)(ip + 1) <= end) {
		to.address = ip->daddr;
		sum_up(&to);
		verdict = verdict_of(&to);
		if (verdict == VERDICT_DROP)
			return XDP_DROP;
	}

	CHAIN_NEXT(ctx, policy_next);
	return CHAIN_END_XDP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
