// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The marker of XDP chains, with two entry functions and two slots. */
#include "mark_pair.h"
#include "mark_xdp.h"

SEC("xdp-mark")
int xdp_mark(struct xdp_md *ctx)
{
	mark_xdp(ctx);

	CHAIN_NEXT_OF_PAIR(ctx);
	return CHAIN_END_XDP;
}

SEC("xdp-mark-too")
int xdp_mark_too(struct xdp_md *ctx)
{
	mark_xdp(ctx);

	CHAIN_NEXT_OF_PAIR(ctx);
	return CHAIN_END_XDP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
