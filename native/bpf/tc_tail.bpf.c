// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Markers of TC chains that have no slot: what comes behind them, they leave to TCX. */
#define MARK_WITHOUT_SLOT
#include "mark_tc.h"

/* Has no opinion, so that TCX runs its next program. */
SEC("tc-tail")
int tc_tail(struct __sk_buff *skb)
{
	mark_tc(skb);
	return TC_ACT_UNSPEC;
}

/* Accepts the packet, so that TCX runs no other program. */
SEC("tc-tail-ok")
int tc_tail_ok(struct __sk_buff *skb)
{
	mark_tc(skb);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
