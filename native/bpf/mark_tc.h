/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Marking in TC chains (see mark.h). The trail is in skb->cb, which TC programs may use freely. */
#pragma once

#include "mark.h"

/*
 * Nothing clears cb before a chain begins. It may hold data of another layer, or the trail of an egress chain: that of
 * a veth pair that the packet has just left, if its ends have the same index in their namespaces. Therefore both
 * indices are compared. On egress the second one is that of the interface by which the packet came in, or 0.
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
