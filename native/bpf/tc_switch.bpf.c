// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Counts packets in either TC direction while it is switched on. Both sides of an interface share the switch: it asks
 * to be pinned by its name. So does the slot, but it must not be shared.
 */
#include "cell.h"
#include "chain.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} tc_switch_next SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} switch_on SEC(".maps");

CELL(switch_packets, __u64);

SEC("tc-switch")
int tc_switch(struct __sk_buff *skb)
{
	__u64 *on = cell(&switch_on);

	if (on && *on)
		count(&switch_packets, 1);

	CHAIN_NEXT(skb, tc_switch_next);
	return CHAIN_END_TC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
