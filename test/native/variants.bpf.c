/* SPDX-License-Identifier: GPL-2.0 */
/* Three variants of a probe for one event, of which a loader chooses one. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} events SEC(".maps");

static __always_inline int count(__u32 key)
{
	__u64 *value = bpf_map_lookup_elem(&events, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int by_btf(void *context)
{
	return count(0);
}

SEC("raw_tp/sched_process_exec")
int by_raw(void *context)
{
	return count(1);
}

SEC("tp/sched/sched_process_exec")
int by_tracepoint(void *context)
{
	return count(2);
}
