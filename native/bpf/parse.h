/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Parses an Ethernet frame up to the fields that the programs here use: IPv4 and IPv6, behind up to two VLAN tags, TCP
 * and UDP destination ports.
 *
 * Every loop has a constant bound, and every read follows a comparison with the end of the data. If something is
 * truncated, unknown or nested too deeply, the later fields stay zero; it is never an error.
 */
#pragma once

#include <stdbool.h>

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* A customer's tag within a provider's (802.1ad) is the deepest nesting in common use. */
#define MAX_VLAN_TAGS 2

/* RFC 8200, section 4.1, recommends five types before the payload, each at most once (destination options: twice). */
#define MAX_IPV6_EXTENSIONS 6

/* Bits of iphdr.frag_off, and of the IPv6 fragment header's offset field. */
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_FRAGMENT_OFFSET 0xfff8

struct vlan_tag {
	__be16 control;
	__be16 ethertype;
};

/* Hop-by-hop options, routing and destination options all begin like this. */
struct ipv6_extension {
	__u8 next_header;
	__u8 length; /* in units of 8 bytes, the first 8 not counted */
};

struct ipv6_fragment {
	__u8 next_header;
	__u8 reserved;
	__be16 offset;
	__be32 identification;
};

/* TCP and UDP both begin like this. */
struct ports {
	__be16 source;
	__be16 destination;
};

struct flow {
	__u32 l3_offset; /* of the IP header, in bytes from the start of the frame; 0: no IP header was found */
	__u16 port; /* destination port in host order; 0: none was found (port 0 is reserved) */
	__u8 ip_version; /* 4, 6, or 0 for neither */
	__u8 protocol; /* IPPROTO_TCP and the like; meaningful when ip_version is not 0 */
	bool fragment; /* the packet is a fragment; only a first one has ports */
};

static __always_inline void parse_ports(void *cursor, void *end, struct flow *flow)
{
	struct ports *ports = cursor;

	if (flow->protocol != IPPROTO_TCP && flow->protocol != IPPROTO_UDP)
		return;
	if ((void *)(ports + 1) > end)
		return;
	flow->port = bpf_ntohs(ports->destination);
}

static __always_inline void parse_ipv4(void *cursor, void *end, struct flow *flow)
{
	struct iphdr *ip = cursor;
	__u16 fragment;

	/* The length field counts 32-bit words; with fewer than the fixed header's five, the packet is malformed. */
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return;
	flow->ip_version = 4;
	flow->protocol = ip->protocol;

	fragment = bpf_ntohs(ip->frag_off);
	flow->fragment = fragment & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET);
	if (!(fragment & IPV4_FRAGMENT_OFFSET))
		parse_ports(cursor + ip->ihl * 4, end, flow);
}

static __always_inline void parse_ipv6(void *cursor, void *end, struct flow *flow)
{
	struct ipv6hdr *ip = cursor;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return;
	flow->ip_version = 6;
	flow->protocol = ip->nexthdr;
	cursor = ip + 1;

#pragma unroll
	for (int i = 0; i < MAX_IPV6_EXTENSIONS; i++) {
		if (flow->protocol == IPPROTO_HOPOPTS || flow->protocol == IPPROTO_ROUTING ||
		    flow->protocol == IPPROTO_DSTOPTS) {
			struct ipv6_extension *extension = cursor;

			if ((void *)(extension + 1) > end)
				return;
			flow->protocol = extension->next_header;
			cursor += 8 + extension->length * 8;
		} else if (flow->protocol == IPPROTO_FRAGMENT) {
			struct ipv6_fragment *fragment = cursor;

			if ((void *)(fragment + 1) > end)
				return;
			flow->fragment = true;
			flow->protocol = fragment->next_header;
			if (fragment->offset & bpf_htons(IPV6_FRAGMENT_OFFSET))
				return;
			cursor = fragment + 1;
		} else {
			break;
		}
	}
	parse_ports(cursor, end, flow);
}

/* Parses the frame between `data` and `end`. */
static __always_inline struct flow parse_frame(void *data, void *end)
{
	struct flow flow = {};
	struct ethhdr *eth = data;
	__u32 offset = sizeof(*eth);
	__be16 ethertype;

	if ((void *)(eth + 1) > end)
		return flow;
	ethertype = eth->h_proto;

#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_tag *tag = data + offset;

		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return flow;
		ethertype = tag->ethertype;
		offset += sizeof(*tag);
	}

	if (ethertype == bpf_htons(ETH_P_IP))
		parse_ipv4(data + offset, end, &flow);
	else if (ethertype == bpf_htons(ETH_P_IPV6))
		parse_ipv6(data + offset, end, &flow);
	if (flow.ip_version)
		flow.l3_offset = offset;
	return flow;
}

static __always_inline struct flow parse_xdp(struct xdp_md *ctx)
{
	return parse_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end);
}

/* Enough for Ethernet, two VLAN tags, an IPv6 header, some extension headers and the ports. */
#define HEADER_BYTES 128

/*
 * An skb may have its headers in fragments that a program cannot read directly. This moves them to the linear part, and
 * invalidates every pointer of the caller into the packet.
 */
static __always_inline struct flow parse_skb(struct __sk_buff *skb)
{
	__u32 wanted = skb->len < HEADER_BYTES ? skb->len : HEADER_BYTES;

	if ((void *)(long)skb->data + wanted > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, wanted);
	return parse_frame((void *)(long)skb->data, (void *)(long)skb->data_end);
}
