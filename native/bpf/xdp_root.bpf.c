// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The root of an XDP chain: it stays attached while programs behind it are added and removed. */
#include "chain.h"

CHAIN_SLOT(xdp_root_array);

SEC("xdp-root")
int xdp_root(struct xdp_md *ctx)
{
	CHAIN_NEXT(ctx, xdp_root_array);
	return CHAIN_END_XDP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
