// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Counts getpgid(2) of one process in two ways: several probes in one object, that share a map. */
#include "count.h"

SEC("tracepoint/syscalls/sys_enter_getpgid")
int on_tracepoint(void *ctx)
{
	count_if_watched(0);
	return 0;
}

SEC("raw_tp/sys_enter")
int on_raw_tracepoint(struct bpf_raw_tracepoint_args *ctx)
{
	if (ctx->args[1] == HOST_NR_GETPGID)
		count_if_watched(1);
	return 0;
}

/* No section of a probe, and none that libbpf knows. */
SEC("something_else")
int not_a_probe(void *ctx)
{
	count_if_watched(2);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
