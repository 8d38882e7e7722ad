// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Counts the programs that are started on the host, in all and by name: a probe, which hangs at no interface. */
#include "cell.h"

/* TASK_COMM_LEN of the kernel, the zero at the end included. */
#define NAME_SIZE 16

CELL(exec_total, __u64);

struct program_name {
	char text[NAME_SIZE];
};

/* As the kernel keeps names: the last part of the path, cut. Least recently used: it cannot fill up for good. */
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
	/* The first start makes its entry; where another CPU was faster, add to that one's. */
	if (!starts) {
		if (bpf_map_update_elem(&exec_names, &name, &one, BPF_NOEXIST) == 0)
			return;
		starts = bpf_map_lookup_elem(&exec_names, &name);
	}
	if (starts)
		__sync_fetch_and_add(starts, 1);
}

/* When the new program has taken the process over, its name included. */
SEC("tracepoint/sched/sched_process_exec")
int count_exec(__attribute__((unused)) void *ctx)
{
	count(&exec_total, 1);
	count_name();
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
