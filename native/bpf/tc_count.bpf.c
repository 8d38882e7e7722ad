// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Counts packets and bytes, in either TC direction. Segments that GRO has merged, or that TSO will split, count as one
 * packet.
 */
#include "cell.h"
#include "chain.h"

CHAIN_SLOT(tc_count_next);

CELL(tc_packets, __u64);

/* Of whole frames, including the link-layer header. */
CELL(tc_bytes, __u64);

SEC("tc-count")
int tc_count(struct __sk_buff *skb)
{
	count(&tc_packets, 1);
	count(&tc_bytes, skb->len);

	CHAIN_NEXT(skb, tc_count_next);
	return CHAIN_END_TC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
