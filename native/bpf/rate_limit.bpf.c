// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Limits the packets per second of an interface.
 *
 * There is one limit for all sources together. It protects the host whatever the number of senders, and it keeps no
 * state that forged source addresses could exhaust. The drawback: one sender with much traffic uses up the share of the
 * others.
 *
 * The limiter is a token bucket that holds the packets of one second, in the form of the generic cell rate algorithm
 * (ITU-T I.371). It keeps a single number: the time at which the bucket will be full again.
 */
#include "cell.h"
#include "chain.h"

#define NANOSECONDS 1000000000ULL

CHAIN_SLOT(rate_limit_next);

/* Packets per second; 0: no limit. */
CELL(rate_limit_config, __u64);
CELL(rate_limit_seen, __u64);
CELL(rate_limit_dropped, __u64);

struct bucket {
	__u64 full_at; /* nanoseconds of CLOCK_MONOTONIC */
	struct bpf_spin_lock lock;
};

CELL(rate_limit_bucket, struct bucket);

static __always_inline int within_limit(__u64 rate)
{
	struct bucket *bucket = cell(&rate_limit_bucket);
	__u64 now = bpf_ktime_get_ns();
	__u64 cost = NANOSECONDS / rate; /* of one packet: the time in which the bucket refills it */
	int within = 0;
	__u64 start;

	if (!bucket)
		return 1;

	bpf_spin_lock(&bucket->lock);
	start = bucket->full_at > now ? bucket->full_at : now;
	if (start + cost <= now + NANOSECONDS) {
		bucket->full_at = start + cost;
		within = 1;
	}
	bpf_spin_unlock(&bucket->lock);
	return within;
}

SEC("xdp-rate-limit")
int xdp_rate_limit(struct xdp_md *ctx)
{
	__u64 *rate = cell(&rate_limit_config);

	count(&rate_limit_seen, 1);
	if (rate && *rate && !within_limit(*rate)) {
		count(&rate_limit_dropped, 1);
		return XDP_DROP;
	}

	CHAIN_NEXT(ctx, rate_limit_next);
	return CHAIN_END_XDP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
