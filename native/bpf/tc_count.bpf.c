// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Counts packets and bytes, in either TC direction. What GRO has put together, or TSO will take apart, is one packet
 * here.
 */
#include "cell.h"
#include "chain.h"

CHAIN_SLOT(tc_count_next);

CELL(tc_packets, __u64);

/* Of whole frames, link-layer header included. */
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
