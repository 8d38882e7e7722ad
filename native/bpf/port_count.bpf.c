// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Counts packets, in total and by TCP or UDP destination port. */
#include "cell.h"
#include "chain.h"
#include "parse.h"

CHAIN_SLOT(port_count_next);

/* Every packet, including those that are neither IP nor TCP nor UDP. */
CELL(packet_count, __u64);

/* Destination port in host order to packets. Least recently used, so a port scan cannot fill it permanently. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, __u64);
} port_packets SEC(".maps");

static __always_inline void count_port(__u16 port)
{
	__u64 one = 1;
	__u64 *packets = bpf_map_lookup_elem(&port_packets, &port);

	/* The first packet of a port creates the entry; if another CPU was faster, add to its entry. */
	if (!packets) {
		if (bpf_map_update_elem(&port_packets, &port, &one, BPF_NOEXIST) == 0)
			return;
		packets = bpf_map_lookup_elem(&port_packets, &port);
	}
	if (packets)
		__sync_fetch_and_add(packets, 1);
}

SEC("xdp-port-count")
int xdp_port_count(struct xdp_md *ctx)
{
	struct flow flow = parse_xdp(ctx);

	count(&packet_count, 1);
	if (flow.port)
		count_port(flow.port);

	CHAIN_NEXT(ctx, port_count_next);
	return CHAIN_END_XDP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
