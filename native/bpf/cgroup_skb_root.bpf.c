// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The roots of the two chains of a control group: each passes what its sockets receive or send to the first program. */
#include "chain.h"

CHAIN_SLOT(cgroup_skb_ingress_root_array);
CHAIN_SLOT(cgroup_skb_egress_root_array);

SEC("cgroup_skb/ingress")
int cgroup_skb_ingress_root(struct __sk_buff *skb)
{
	CHAIN_NEXT(skb, cgroup_skb_ingress_root_array);
	return CHAIN_END_CGROUP_SKB;
}

SEC("cgroup_skb/egress")
int cgroup_skb_egress_root(struct __sk_buff *skb)
{
	CHAIN_NEXT(skb, cgroup_skb_egress_root_array);
	return CHAIN_END_CGROUP_SKB;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
