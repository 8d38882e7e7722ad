// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The marker of TC chains, with two entry functions and two slots. */
#include "mark_pair.h"
#include "mark_tc.h"

SEC("tc-mark")
int tc_mark(struct __sk_buff *skb)
{
	mark_tc(skb);

	CHAIN_NEXT_OF_PAIR(skb);
	return CHAIN_END_TC;
}

SEC("tc-mark-too")
int tc_mark_too(struct __sk_buff *skb)
{
	mark_tc(skb);

	CHAIN_NEXT_OF_PAIR(skb);
	return CHAIN_END_TC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
