/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Markers show the path of a packet through a chain. A probe packet (UDP to port 9999) carries a trail from marker to
 * marker. Each marker adds itself and stores the trail so far. The maps of all markers after one probe give the order
 * in which it passed them. The paths that the last marker has counted show whether any of many probes took another
 * path.
 */
#pragma once

#include "cell.h"
#include "chain.h"
#include "parse.h"

#define PROBE_PORT 9999
#define DISCARD_PORT 9

#ifndef MARK_WITHOUT_SLOT
CHAIN_SLOT(mark_next);
#endif

/* The marker's number, 1 to 255; the agent sets it from the program's map_args. */
CELL(mark_id, __u32);

/* The marker's position on the path of the last probe: 1 for the first marker, 0 if there was no probe. */
CELL(mark_order, __u64);

/* Number of probes. More than were sent means that the chain has a loop. */
CELL(mark_seen, __u64);

/* Ordinary traffic: UDP to the discard port. */
CELL(mark_packets, __u64);

/*
 * Path to number of probes. A path consists of the numbers of the markers passed up to and including this one, one byte
 * each, the last in the lowest byte: 0x010203 for 1, then 2, then 3. It holds the last eight.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, __u64);
} mark_paths SEC(".maps");

/* What a probe carries. */
struct trail {
	__u32 stamp; /* distinguishes a trail of this pass through this hook from other data in its place */
	__u32 hops;
	__u64 path;
};

#define TRAIL_MAGIC 0x4c334146 /* "L3AF" */

static __always_inline void extend_trail(struct trail *trail)
{
	__u32 *id = cell(&mark_id);

	trail->hops++;
	trail->path = trail->path << 8 | (id ? *id & 0xff : 0);
}

static __always_inline void record_trail(const struct trail *trail)
{
	__u64 *order = cell(&mark_order);
	__u64 path = trail->path;
	__u64 one = 1;
	__u64 *probes;

	if (order)
		*order = trail->hops;
	count(&mark_seen, 1);

	probes = bpf_map_lookup_elem(&mark_paths, &path);
	if (!probes) {
		if (bpf_map_update_elem(&mark_paths, &path, &one, BPF_NOEXIST) == 0)
			return;
		probes = bpf_map_lookup_elem(&mark_paths, &path);
	}
	if (probes)
		__sync_fetch_and_add(probes, 1);
}

/* Counts ordinary traffic. Returns whether the packet is a probe. */
static __always_inline bool is_probe(const struct flow *flow)
{
	if (flow->protocol != IPPROTO_UDP)
		return false;
	if (flow->port == DISCARD_PORT)
		count(&mark_packets, 1);
	return flow->port == PROBE_PORT;
}
