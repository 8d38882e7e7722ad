// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Markers of TC chains that have no slot: they leave it to TCX to run what is behind them. */
#define MARK_WITHOUT_SLOT
#include "mark_tc.h"

/* Has no opinion, so TCX runs its next program. */
SEC("tc-tail")
int tc_tail(struct __sk_buff *skb)
{
	mark_tc(skb);
	return TC_ACT_UNSPEC;
}

/* Accepts the packet, so TCX runs no other program. */
SEC("tc-tail-ok")
int tc_tail_ok(struct __sk_buff *skb)
{
	mark_tc(skb);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
