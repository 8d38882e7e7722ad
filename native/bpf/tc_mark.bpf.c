// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The marker of TC chains, in either direction. */
#include "mark_tc.h"

SEC("tc-mark")
int tc_mark(struct __sk_buff *skb)
{
	mark_tc(skb);

	CHAIN_NEXT(skb, mark_next);
	return CHAIN_END_TC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
