// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Compiles, but every kernel refuses it: it reads the packet without a comparison with the packet's end. The verifier
 * says "invalid access to packet". For tests of how a refusal is reported and rolled back.
 */
#include "chain.h"

CHAIN_SLOT(broken_next);

SEC("xdp-broken")
int xdp_broken(struct xdp_md *ctx)
{
	__u8 *first = (void *)(long)ctx->data;

	if (*first == 0xff)
		return XDP_DROP;

	CHAIN_NEXT(ctx, broken_next);
	return CHAIN_END_XDP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
