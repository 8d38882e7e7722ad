/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Whose events count: a process, under key 0. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} watched_pid SEC(".maps");

/* How many of each kind there were. libbpf would pin it under its own name, at a place of its own choice. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u16);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} event_counts SEC(".maps");

static __always_inline void count_event(__u16 kind)
{
	__u64 zero = 0, *events;

	bpf_map_update_elem(&event_counts, &kind, &zero, BPF_NOEXIST);
	events = bpf_map_lookup_elem(&event_counts, &kind);
	if (events)
		__sync_fetch_and_add(events, 1);
}

static __always_inline void count_if_watched(__u16 kind)
{
	__u32 key = 0, *pid = bpf_map_lookup_elem(&watched_pid, &key);

	if (pid && *pid == bpf_get_current_pid_tgid() >> 32)
		count_event(kind);
}
