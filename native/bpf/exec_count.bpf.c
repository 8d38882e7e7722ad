// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Counts the programs that are started on the host, in total and by name: a probe, which is attached to no interface.
 */
#include "cell.h"

/* TASK_COMM_LEN of the kernel, including the zero at the end. */
#define NAME_SIZE 16

CELL(exec_total, __u64);

struct program_name {
	char text[NAME_SIZE];
};

/* Names as the kernel keeps them: the last part of the path, truncated. Least recently used, so it never stays full. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct program_name);
	__type(value, __u64);
} exec_names SEC(".maps");

static __always_inline void count_name(void)
{
	struct program_name name = {};
	__u64 one = 1;
	__u64 *starts;

	if (bpf_get_current_comm(name.text, sizeof(name.text)))
		return;
	starts = bpf_map_lookup_elem(&exec_names, &name);
	/* The first start creates the entry; if another CPU was faster, add to its entry. */
	if (!starts) {
		if (bpf_map_update_elem(&exec_names, &name, &one, BPF_NOEXIST) == 0)
			return;
		starts = bpf_map_lookup_elem(&exec_names, &name);
	}
	if (starts)
		__sync_fetch_and_add(starts, 1);
}

/* Runs after the new program has taken over the process, including its name. */
SEC("tracepoint/sched/sched_process_exec")
int count_exec(__attribute__((unused)) void *ctx)
{
	count(&exec_total, 1);
	count_name();
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
