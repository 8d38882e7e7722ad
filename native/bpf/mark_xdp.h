/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Marking in XDP chains (see mark.h). The trail is in the packet's metadata, in front of its first byte. */
#pragma once

#include "mark.h"

/* The trail of an earlier marker, or a new one; null if the driver has no room for metadata. */
static __always_inline struct trail *trail_of(struct xdp_md *ctx)
{
	__u32 stamp = TRAIL_MAGIC ^ ctx->ingress_ifindex;
	struct trail *trail = (void *)(long)ctx->data_meta;

	if ((void *)(trail + 1) <= (void *)(long)ctx->data && trail->stamp == stamp)
		return trail;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*trail)))
		return NULL;
	trail = (void *)(long)ctx->data_meta;
	if ((void *)(trail + 1) > (void *)(long)ctx->data)
		return NULL;
	*trail = (struct trail){ .stamp = stamp };
	return trail;
}

static __always_inline void mark_xdp(struct xdp_md *ctx)
{
	struct flow flow = parse_xdp(ctx);
	struct trail trail = {};
	struct trail *carried;

	if (!is_probe(&flow))
		return;
	carried = trail_of(ctx);
	if (carried) {
		extend_trail(carried);
		trail = *carried;
	} else {
		extend_trail(&trail);
	}
	record_trail(&trail);
}
