// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A tracepoint in the object of an XDP program: packets and system calls are counted in one map. */
#include "../../native/bpf/chain.h"
#include "count.h"

CHAIN_SLOT(beside_next);

SEC("xdp_of_its_own")
int xdp_beside(struct xdp_md *ctx)
{
	count_event(0);
	CHAIN_NEXT(ctx, beside_next);
	return CHAIN_END_XDP;
}

SEC("tp/syscalls/sys_enter_getpgid")
int on_getpgid(void *ctx)
{
	count_if_watched(1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
