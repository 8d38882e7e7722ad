// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Drops what the sockets of a control group send to, or receive at, UDP ports (IPv4). Here a packet begins with its
 * network header.
 */
#include "cell.h"
#include "chain.h"

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>

CHAIN_SLOT(skb_drop_next);

/* Destination port in host order; drop if not 0. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u16);
	__type(value, __u8);
} skb_drop_ports SEC(".maps");

CELL(skb_dropped, __u64);

SEC("cgroup_skb/egress")
int skb_drop(struct __sk_buff *skb)
{
	struct iphdr ip;
	struct udphdr udp;
	__u16 port;
	__u8 *drop;

	if (skb->protocol == bpf_htons(0x0800) && !bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) &&
	    ip.protocol == IPPROTO_UDP && !bpf_skb_load_bytes(skb, ip.ihl * 4, &udp, sizeof(udp))) {
		port = bpf_ntohs(udp.dest);
		drop = bpf_map_lookup_elem(&skb_drop_ports, &port);
		if (drop && *drop) {
			count(&skb_dropped, 1);
			return 0;
		}
	}

	CHAIN_NEXT(skb, skb_drop_next);
	return CHAIN_END_CGROUP_SKB;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
