/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One-entry arrays: counters and settings of a program, each with its own name. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#define CELL(cell_name, value_type)                                                                                    \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                                      \
		__uint(max_entries, 1);                                                                                \
		__type(key, __u32);                                                                                    \
		__type(value, value_type);                                                                             \
	} cell_name SEC(".maps")

/* The value of a cell. Never null, since key 0 of an array always exists. But most verifiers require the check. */
static __always_inline void *cell(void *map)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(map, &key);
}

/* Adds to a counter (a CELL of __u64) that several CPUs share. */
static __always_inline void count(void *counter, __u64 amount)
{
	__u64 *value = cell(counter);

	if (value)
		__sync_fetch_and_add(value, amount);
}
