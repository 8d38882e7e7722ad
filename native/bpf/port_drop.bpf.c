// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Drops packets by TCP or UDP destination port.
 *
 * Built twice, as versions 1 and 2, to show updates with code that really differs. Version 2 also counts fragments: a
 * port filter cannot see the ports of any fragment but the first.
 */
#include "cell.h"
#include "chain.h"
#include "parse.h"

#ifndef VERSION
#define VERSION 1
#endif

CHAIN_SLOT(port_drop_next);

/* Destination port in host order; drop if not 0. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, __u8);
} drop_ports SEC(".maps");

CELL(seen_count, __u64);
CELL(dropped_count, __u64);
#if VERSION >= 2
CELL(fragment_count, __u64);
#endif

SEC("xdp-port-drop")
int xdp_port_drop(struct xdp_md *ctx)
{
	struct flow flow = parse_xdp(ctx);
	__u8 *drop;

	count(&seen_count, 1);
#if VERSION >= 2
	if (flow.fragment)
		count(&fragment_count, 1);
#endif

	drop = bpf_map_lookup_elem(&drop_ports, &flow.port);
	if (flow.port && drop && *drop) {
		count(&dropped_count, 1);
		return XDP_DROP;
	}

	CHAIN_NEXT(ctx, port_drop_next);
	return CHAIN_END_XDP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
