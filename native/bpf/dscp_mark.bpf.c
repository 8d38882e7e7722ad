// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Sets the DSCP (RFC 2474) of outgoing IPv4 and IPv6 packets by TCP or UDP destination port; ECN stays unchanged. */
#include <stddef.h>

#include "cell.h"
#include "chain.h"
#include "parse.h"

#define MAX_DSCP 63

/*
 * Positions in the first 16 bits of the header. IPv4: version, length, DSCP, ECN. IPv6: version, DSCP, ECN, flow label.
 */
#define IPV4_DSCP_SHIFT 2
#define IPV6_DSCP_SHIFT 6

CHAIN_SLOT(dscp_mark_next);

/* Destination port in host order to DSCP, 0 to 63; entries above 63 are ignored. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, __u8);
} dscp_ports SEC(".maps");

CELL(dscp_seen, __u64);

/* Packets that have left with the configured DSCP, including those that had it before. */
CELL(dscp_marked, __u64);

/* Returns 0 or a negative errno. */
static __always_inline int write_dscp(struct __sk_buff *skb, const struct flow *flow, __u8 dscp)
{
	__u8 shift = flow->ip_version == 4 ? IPV4_DSCP_SHIFT : IPV6_DSCP_SHIFT;
	__be16 before, after;
	int error;

	error = bpf_skb_load_bytes(skb, flow->l3_offset, &before, sizeof(before));
	if (error)
		return error;
	after = bpf_htons((bpf_ntohs(before) & ~(MAX_DSCP << shift)) | dscp << shift);
	if (after == before)
		return 0;

	/* The kernel updates the checksum by the difference, so the order of the two writes does not matter. */
	if (flow->ip_version == 4) {
		error = bpf_l3_csum_replace(skb, flow->l3_offset + offsetof(struct iphdr, check), before, after,
					    sizeof(after));
		if (error)
			return error;
	}
	return bpf_skb_store_bytes(skb, flow->l3_offset, &after, sizeof(after), 0);
}

SEC("tc-dscp-mark")
int tc_dscp_mark(struct __sk_buff *skb)
{
	struct flow flow = parse_skb(skb);
	__u8 *dscp;

	count(&dscp_seen, 1);
	dscp = bpf_map_lookup_elem(&dscp_ports, &flow.port);
	if (flow.port && dscp && *dscp <= MAX_DSCP && write_dscp(skb, &flow, *dscp) == 0)
		count(&dscp_marked, 1);

	CHAIN_NEXT(skb, dscp_mark_next);
	return CHAIN_END_TC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
