// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The roots of the two TC chains of an interface. Both are in one object, as in l3afd's packages. */
#include "chain.h"

CHAIN_SLOT(tc_ingress_root_array);
CHAIN_SLOT(tc_egress_root_array);

SEC("tc-ingress-root")
int tc_ingress_root(struct __sk_buff *skb)
{
	CHAIN_NEXT(skb, tc_ingress_root_array);
	return CHAIN_END_TC;
}

SEC("tc-egress-root")
int tc_egress_root(struct __sk_buff *skb)
{
	CHAIN_NEXT(skb, tc_egress_root_array);
	return CHAIN_END_TC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
