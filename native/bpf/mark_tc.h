/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Marking in TC chains (see mark.h). The trail travels in skb->cb, which TC programs may use as they like. */
#pragma once

#include "mark.h"

/*
 * Nobody clears cb before a chain begins: it may hold another layer's data, or the trail of an egress chain that the
 * packet has just left through a veth pair whose ends have the same index in their namespaces. Hence both indices: on
 * egress the second one is that of the interface the packet once came in by, or 0.
 */
static __always_inline __u32 stamp_of(struct __sk_buff *skb)
{
	return TRAIL_MAGIC ^ skb->ifindex ^ skb->ingress_ifindex << 16;
}

static __always_inline void mark_tc(struct __sk_buff *skb)
{
	struct flow flow = parse_skb(skb);
	struct trail trail = { .stamp = stamp_of(skb) };

	if (!is_probe(&flow))
		return;
	if (skb->cb[0] == trail.stamp) {
		trail.hops = skb->cb[1];
		trail.path = (__u64)skb->cb[2] << 32 | skb->cb[3];
	}
	extend_trail(&trail);
	skb->cb[0] = trail.stamp;
	skb->cb[1] = trail.hops;
	skb->cb[2] = trail.path >> 32;
	skb->cb[3] = (__u32)trail.path;
	record_trail(&trail);
}
