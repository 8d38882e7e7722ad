// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs of kinds that the agent does not attach, in the object of an XDP program. A companion may attach them. */
#include "../../native/bpf/chain.h"

CHAIN_SLOT(mixed_next);

SEC("xdp")
int xdp_mixed(struct xdp_md *ctx)
{
	CHAIN_NEXT(ctx, mixed_next);
	return CHAIN_END_XDP;
}

/* Another entry for chains is nothing that is left out. */
SEC("xdp")
int xdp_other(struct xdp_md *ctx)
{
	return CHAIN_END_XDP;
}

SEC("perf_event")
int on_sample(void *ctx)
{
	return 0;
}

SEC("sockops")
int on_socket(struct bpf_sock_ops *ops)
{
	return 1;
}

/* The object leaves it out by itself. */
SEC("?usdt//bin/sh:a:b")
int on_usdt(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
