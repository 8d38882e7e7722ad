// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The marker of XDP chains. */
#include "mark_xdp.h"

SEC("xdp-mark")
int xdp_mark(struct xdp_md *ctx)
{
	mark_xdp(ctx);

	CHAIN_NEXT(ctx, mark_next);
	return CHAIN_END_XDP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
