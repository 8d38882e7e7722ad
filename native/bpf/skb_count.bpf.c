// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Counts the packets of a control group's sockets, in either direction. */
#include "cell.h"
#include "chain.h"

CHAIN_SLOT(skb_count_next);

CELL(skb_packets, __u64);

SEC("cgroup_skb/ingress")
int skb_count(struct __sk_buff *skb)
{
	count(&skb_packets, 1);

	CHAIN_NEXT(skb, skb_count_next);
	return CHAIN_END_CGROUP_SKB;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
